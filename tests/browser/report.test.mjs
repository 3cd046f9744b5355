// SPDX-License-Identifier: GPL-2.0-or-later
// Clicks through the report of a run and of a loop.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, open } from "./browser.mjs";

const reports = process.env.REPORTS;
const run = join(reports, "al-melt/report.html");
const loop = join(reports, "al-heal/report.html");
let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser.close(); });

/** Number of pixels of a canvas that differ from its corner. */
const painted = (page, selector) => page.$eval(selector, (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let k = 0; k < data.length; k += 4) {
    count += [0, 1, 2, 3].some((c) => data[k + c] !== data[c]);
  }
  return count;
});
const toTheMiddle = (page, selector) => page.$eval(selector, (element) => element.scrollIntoView({ block: "center" }));
const image = (page, selector) => page.$eval(selector, (canvas) => canvas.toDataURL());
const clean = (seen) => {
  assert.deepEqual(seen.problems, []);
  assert.ok(seen.requests.every((url) => url.startsWith("file:") || url.startsWith("data:")), seen.requests.join("\n"));
};

for (const [file, name] of [[run, "run"], [loop, "loop"]]) {
  for (const width of [390, 800, 1400]) {
    for (const scheme of ["light", "dark"]) {
      test(`${name}, ${width} wide, ${scheme}: all plots are drawn and nothing sticks out`, async () => {
        const { page, seen, context } = await open(browser, file, { width, scheme });
        for (const id of ["gamma", "above", "histogram", "temperature", "energy", "pressure", "volume", "speed"]) {
          assert.ok(await painted(page, `#${id} canvas`) > 1000, `${id} is empty`);
        }
        for (const id of name === "loop" ? ["learning", "learning-checks", "learning-gamma", "learning-labels", "learning-time"] : []) {
          assert.ok(await painted(page, `#${id} canvas`) > 300, `${id} is empty`);
        }
        assert.ok(await painted(page, "#radial canvas") > 1000, "no radial distribution functions");
        assert.ok(await painted(page, "#displacement canvas") > 300, "no displacements");
        for (const id of ["cluster", "frame"]) assert.ok(await painted(page, `#${id}`) > 5000, `no atoms in ${id}`);
        const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(inner <= outer, `the page is ${inner} wide in a window of ${outer}`);
        const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        const light = ground.match(/\d+/g).map(Number).reduce((a, b) => a + b) > 384;
        assert.equal(light, scheme === "light");
        clean(seen);
        await context.close();
      });
    }
  }
}

test("an exploration: strength and environments are plotted, and only then", async () => {
  const { page, seen, context } = await open(browser, join(reports, "al-biased/report.html"));
  for (const id of ["bias", "found"]) assert.ok(await painted(page, `#${id} canvas`) > 300, `${id} is empty`);
  clean(seen);
  await context.close();
  const other = await open(browser, run);
  for (const id of ["bias", "found"]) assert.equal(await other.page.isVisible(`#of-${id}`), false, id);
  clean(other.seen);
  await other.context.close();
});

test("the run: what stands at the top is what happened", async () => {
  const { page, seen, context } = await open(browser, run);
  assert.match(await page.textContent("header"), /stopped for uncertainty[^]*γ passed 5 at step \d+: \d+\.\d+ at atom \d+/);
  const facts = await page.textContent(".facts");
  for (const fact of ["largest γ", "thresholds2 and 5", "candidates1", "atoms500"]) {
    assert.ok(facts.includes(fact), `${fact} is not in ${facts}`);
  }
  await page.click("summary:has-text('All settings')");
  assert.match(await page.textContent("pre"), /uncertainty_threshold = 5/);
  assert.match(await page.textContent("main"), /LAMMPS20\d{6}/);
  clean(seen);
  await context.close();
});

test("the run: a click on the mark in the plot and in the table shows the candidate, which turns", async () => {
  const { page, seen, context } = await open(browser, run);
  assert.match(await page.textContent("#candidate-title"), /^Candidate 1: Al/);
  assert.match(await page.textContent("#checks"), /γ of the centre: 5\.\d+ in the cut-out, 5\.\d+ in the run/);
  await page.click("#candidates tbody tr:first-child button");
  assert.equal(await page.getAttribute("#candidates tbody tr:first-child", "aria-selected"), "true");
  const looks = [await image(page, "#cluster")];
  const note = async (what) => {
    const now = await image(page, "#cluster");
    assert.ok(!looks.includes(now), `${what} changes nothing`);
    looks.push(now);
  };
  const box = await (await page.$("#cluster")).boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.mouse.move(x, y);
  assert.match(await page.textContent("#hover"), /^Al \d+, (centre|core|buffer), γ \d/);
  await page.mouse.down();
  await page.mouse.move(x + 80, y + 30, { steps: 4 });
  await page.mouse.up();
  await note("dragging");
  await page.focus("#cluster");
  await page.keyboard.press("ArrowUp");
  await note("an arrow key");
  await page.keyboard.press("+");
  await note("+");
  await page.selectOption("#colour", "mask");
  await note("the colours of core and buffer");
  await page.selectOption("#colour", "element");
  await note("the colours of elements");
  await page.uncheck("#buffer");
  await note("the buffer, left out,");
  await page.click("#reset");
  await note("turning back");
  clean(seen);
  await context.close();
});

test("the run: dragging in the plot zooms in, the button changes the colours", async () => {
  const { page, seen, context } = await open(browser, run);
  const before = await image(page, "#gamma canvas");
  const box = await (await page.$("#gamma .u-over")).boundingBox();
  await page.mouse.move(box.x + box.width * 0.2, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.4, box.y + 60, { steps: 5 });
  await page.mouse.up();
  await page.waitForFunction((old) => document.querySelector("#gamma canvas").toDataURL() !== old, before);
  await page.click("#theme");
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  clean(seen);
  await context.close();
});

test("the run: its trajectory is described, and its last frame turns", async () => {
  const { page, seen, context } = await open(browser, run);
  assert.match(await page.textContent("#trajectory-summary"), /^trajectory\.dump: \d+ frames of 500 atoms, one every 0\.02 ps\.$/);
  assert.match(await page.textContent("#radial-note"), /^Mean of \d+ frames/);
  assert.match(await page.textContent("#radial .u-legend"), /Al–Al/);
  assert.match(await page.textContent("#diffusion"), /^D of Alnot determined: /);
  assert.match(await page.textContent("#frame-caption"), /^The last frame, step \d+ \(\d+\.\d+ ps\)\.$/);
  const looks = [await image(page, "#frame")];
  await toTheMiddle(page, "#frame");
  const box = await (await page.$("#frame")).boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.mouse.move(x, y);
  assert.match(await page.textContent("#frame-hover"), /^Al \d+, γ \d/);
  await page.mouse.down();
  await page.mouse.move(x + 80, y + 30, { steps: 4 });
  await page.mouse.up();
  looks.push(await image(page, "#frame"));
  await page.selectOption("#frame-colour", "element");
  looks.push(await image(page, "#frame"));
  assert.equal(new Set(looks).size, 3);
  await page.click("#frame-reset");
  await page.selectOption("#frame-colour", "gamma");
  assert.equal(await image(page, "#frame"), looks[0]);
  clean(seen);
  await context.close();
});

// A process, which ends with the test.
function start(context, ...words) {
  const child = spawn(process.env.PROGRAM, ["--quiet", ...words], { stdio: ["ignore", "inherit", "inherit"] });
  const end = new Promise((done) => { child.on("exit", (code, signal) => done(code ?? signal)); });
  context.after(() => child.kill("SIGKILL"));
  return { child, end };
}

test("a run under way: the page reloads itself and keeps what the user has chosen", async (t) => {
  const out = join(reports, "live");
  const file = join(out, "report.html");
  const endless = readFileSync(join(reports, "al-melt.toml"), "utf8").replace("steps = 4000", "steps = 100000000")
    .replace("[300, 1500]", "300").replace("uncertainty_low = 2.0", "uncertainty_low = 0.5").replace("[potential]", 'mode = "flag"\n[potential]');
  writeFileSync(join(reports, "live.toml"), endless);
  const running = start(t, "run", join(reports, "live.toml"), "--output", out);
  const until = async (what, ready) => {
    while (!ready()) {
      assert.equal(running.child.exitCode, null, `the run ended before ${what}`);
      await new Promise((done) => { setTimeout(done, 100); });
    }
  };
  const lines = (name) => (existsSync(join(out, name)) ? readFileSync(join(out, name), "utf8").split("\n").length : 0);
  await until("it had polls", () => lines("polls.jsonl") > 5 && lines("trajectory.dump") > 2000);
  const following = start(t, "report", "--follow", "--interval", "1", out);
  await until("it had a page", () => existsSync(file));
  // Each page starts without the tick, so that it cannot reload itself between two steps of this test.
  const script = () => document.addEventListener("DOMContentLoaded", () => {
    const box = document.getElementById("reload");
    if (box) box.checked = false;
  });
  const { page, seen, context } = await open(browser, file, { script });
  const data = () => page.evaluate(() => JSON.parse(document.getElementById("data").textContent));
  const tick = () => page.$eval("#reload", (box) => { box.checked = true; box.dispatchEvent(new Event("change")); });
  const mark = () => page.evaluate(() => { window.held = true; });
  const waitForReload = async () => {
    await page.waitForFunction(() => window.held === undefined && document.readyState === "complete");
    await page.waitForSelector("#gamma canvas");
  };
  // The state that the page writes before it reloads itself.
  const reload = async () => {
    await mark();
    await page.evaluate(() => {
      const set = Storage.prototype.setItem;
      Storage.prototype.setItem = function (key, text) { window.name = text; set.call(this, key, text); };
    });
    await tick();
    await waitForReload();
    return page.evaluate(() => JSON.parse(window.name));
  };
  const later = () => page.waitForFunction(() => performance.now() > 3000);
  // Without the tick it stays.
  await mark();
  await later();
  assert.equal(await page.evaluate(() => window.held), true);
  // Nor does it reload itself while the user holds it.
  await toTheMiddle(page, "#frame");
  const at = await (await page.$("#frame")).boundingBox();
  await page.mouse.move(at.x + 100, at.y + 100);
  await page.mouse.down();
  await page.mouse.move(at.x + 160, at.y + 140, { steps: 3 });
  await tick();
  const began = await page.evaluate(() => performance.now());
  await page.waitForFunction((from) => performance.now() > from + 2000, began);
  assert.equal(await page.evaluate(() => window.held), true);
  await page.mouse.up();
  await waitForReload();
  // What is chosen is kept.
  await toTheMiddle(page, "#gamma");
  const gamma = await (await page.$("#gamma .u-over")).boundingBox();
  await page.mouse.move(gamma.x + gamma.width * 0.1, gamma.y + 50);
  await page.mouse.down();
  await page.mouse.move(gamma.x + gamma.width * 0.4, gamma.y + 60, { steps: 5 });
  await page.mouse.up();
  await page.click("#theme");
  await page.selectOption("#frame-colour", "element");
  await page.click("summary:has-text('All settings')");
  await toTheMiddle(page, "#frame");
  const chosen = () => page.evaluate(() => [scrollY, document.documentElement.dataset.theme,
    document.getElementById("frame-colour").value, document.querySelector("details:has(pre)").open]);
  const before = await chosen();
  assert.deepEqual(before.slice(1), ["dark", "element", true]);
  const saved = await reload();
  assert.deepEqual(await chosen(), before);
  const again = await reload();
  assert.deepEqual(await chosen(), before);
  const zoomOf = (state) => state.zooms.find(([id]) => id === "gamma");
  assert.ok(zoomOf(saved)[1].max > zoomOf(saved)[1].min, JSON.stringify(saved.zooms));
  assert.deepEqual(zoomOf(again), zoomOf(saved));
  assert.deepEqual(again.views, saved.views);
  const turned = saved.views.find(([id]) => id === "frame")[1].axes[0][0];
  assert.notEqual(turned, Math.cos(0.5));
  // The page follows the run.
  const polls = async () => (await data()).parts[0].series.polls;
  const first = await polls();
  while (await polls() === first) await reload();
  // Its end.
  running.child.kill("SIGKILL");
  assert.equal(await following.end, 0);
  await mark();
  await tick();
  await waitForReload();
  assert.equal((await data()).reload, null);
  assert.match(await page.textContent("header"), /ended without a result/);
  assert.equal(await page.$("#reload"), null);
  assert.deepEqual(await chosen(), before);
  clean(seen);
  await context.close();
});

test("the loop: rounds in a table, above each other in a plot, and one by one", async () => {
  const { page, seen, context } = await open(browser, loop);
  const rounds = await page.$$eval("#rounds tbody tr", (rows) => rows.length);
  assert.ok(rounds >= 2, `${rounds} rounds`);
  assert.ok(await painted(page, "#overview canvas") > 1000);
  assert.equal((await page.$$("#part option")).length, rounds);
  const before = await image(page, "#gamma canvas");
  await page.selectOption("#part", String(rounds - 1));
  assert.notEqual(await image(page, "#gamma canvas"), before);
  // A candidate takes its round along.
  const last = await page.$("#candidates tbody tr:last-child");
  await last.click();
  const from = await last.$eval("td:last-child", (cell) => cell.textContent);
  assert.ok((await page.$eval("#part", (select) => select.selectedOptions[0].textContent)).startsWith(from));
  assert.match(await page.textContent("#candidate-title"), /^Candidate \d+: Al/);
  clean(seen);
  await context.close();
});

test("names and messages of others are text, not HTML", async () => {
  const { page, seen, context } = await open(browser, join(reports, "hostile/report.html"));
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.equal((await page.$$("img")).length, 0);
  assert.ok((await page.textContent("body")).includes("<img src=x onerror=broken=1>"));
  clean(seen);
  await context.close();
});
