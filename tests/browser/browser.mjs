// SPDX-License-Identifier: GPL-2.0-or-later
// The browser, and a page of it that notes whatever goes wrong.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const home = process.env.BROWSER_HOME;
const { chromium } = createRequire(join(home, "package.json"))("playwright-core");

// What takes longer hangs; a busy machine does not.
const HANG = 600_000;

export function launch() {
  const unpacked = join(home, "chromium");
  return chromium.launch({
    executablePath: join(unpacked, "chromium"),
    timeout: HANG,
    env: {
      ...process.env,
      LD_LIBRARY_PATH: [process.env.LD_LIBRARY_PATH, join(unpacked, "lib"), unpacked].filter(Boolean).join(":"),
      FONTCONFIG_PATH: join(unpacked, "fonts"),
    },
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--allow-pre-commit-input"],
  });
}

/** Opens a file in a window of that width; `script` runs in each page before its own. `seen.problems` gets every error, `seen.requests` all that is loaded. */
export async function open(browser, file, { width = 1200, height = 900, scheme = "light", scale = 1, script } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, deviceScaleFactor: scale });
  context.setDefaultTimeout(HANG);
  if (script) await context.addInitScript(script);
  const page = await context.newPage();
  const seen = { problems: [], requests: [] };
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) seen.problems.push(message.text()); });
  page.on("pageerror", (error) => seen.problems.push(String(error)));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.goto(pathToFileURL(file).href);
  await page.waitForSelector("#gamma canvas");
  return { page, seen, context };
}
