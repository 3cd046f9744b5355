// SPDX-License-Identifier: GPL-2.0-or-later
// Unpacks the Chromium that stands compressed in the npm package, with its libraries and a font, into FOLDER/chromium.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";

const home = process.argv[2];
const from = join(home, "node_modules/@sparticuz/chromium/bin");
const to = join(home, "chromium");
mkdirSync(to, { recursive: true });
writeFileSync(join(to, "chromium"), brotliDecompressSync(readFileSync(join(from, "chromium.br"))), { mode: 0o755 });
for (const name of ["al2023", "fonts", "swiftshader"]) {
  const tar = join(to, `${name}.tar`);
  writeFileSync(tar, brotliDecompressSync(readFileSync(join(from, `${name}.tar.br`))));
  execFileSync("tar", ["-xf", tar, "-C", to]);
  rmSync(tar);
}
