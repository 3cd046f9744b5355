// SPDX-License-Identifier: GPL-2.0-or-later
// The pictures of the documentation: three widths, light and dark.
import { join } from "node:path";

import { launch, open } from "./browser.mjs";

const to = process.argv[2];
const shots = [
  ["al-melt", "report-wide.png", { width: 1200, height: 1900 }],
  ["al-melt", "report-dark.png", { width: 800, height: 1500, scheme: "dark" }],
  ["al-melt", "report-narrow.png", { width: 390, height: 2400 }],
  ["al-heal", "report-loop.png", { width: 1200, height: 1500 }],
];
const browser = await launch();
for (const [name, picture, size] of shots) {
  const { page, context } = await open(browser, join(process.env.REPORTS, name, "report.html"), size);
  await page.screenshot({ path: join(to, picture), animations: "disabled" });
  console.log(join(to, picture));
  await context.close();
}
await browser.close();
