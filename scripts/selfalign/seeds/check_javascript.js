// Reads programs (JSON lines {code, names, modules}) and says of each what is wrong with it, as JSON: null or [reason, detail].
"use strict";
const { createInterface } = require("node:readline");
const { builtinModules } = require("node:module");
const { Script, SourceTextModule } = require("node:vm");

const KNOWN = new Set([...Object.getOwnPropertyNames(globalThis), "require", "module", "exports", "__filename", "__dirname"]);
const MODULES = new Set(builtinModules.flatMap((name) => [name, `node:${name}`]));

function check({ code, names, modules }) {
  try {
    try {
      new Script(code);
    } catch (error) {
      if (!/\b(?:import|export|await)\b/.test(code)) throw error;
      new SourceTextModule(code);  // a module is checked by other rules: all of it is strict
    }
  } catch (error) {
    return ["syntax error", error.message];
  }
  const unknown = names.filter((name) => !KNOWN.has(name));
  if (unknown.length) return ["undefined name", unknown.join(", ")];
  const missing = modules.filter((name) => !MODULES.has(name));
  return missing.length ? ["unresolved import", missing.join(", ")] : null;
}

createInterface({ input: process.stdin }).on("line", (line) => console.log(JSON.stringify(check(JSON.parse(line)))));
