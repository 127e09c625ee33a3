// Runs one JavaScript program in its own process, counts the assertions of its tests, and reports behind a token.
//
// Everything the report needs is taken from Node before the program's first line and kept in this function: a program
// can change every global, but no local name here. The token is a text, so that no method is called to write it.
"use strict";
(function (require, real) {
  const PROGRAM = 253, CONTROL = 254, TOKEN = 255;
  const STARTED = "\x01", FALSE = "\x02";
  const { readFileSync, readSync, closeSync, writeSync } = require("node:fs");
  const { Script } = require("node:vm");
  const { registerHooks } = require("node:module");
  const { Console } = require("node:console");
  const originals = require("node:assert");
  const { apply } = Reflect;
  const { keys, freeze, defineProperty } = Object;
  const { then } = Promise.prototype;
  const { exec } = RegExp.prototype;
  const { slice } = String.prototype;
  const exit = real.reallyExit;
  const PromiseOf = Promise, ErrorOf = Error;

  const MODULES = { __proto__: null };
  for (const name of ["assert", "assert/strict", "async_hooks", "buffer", "crypto", "events", "path", "path/posix",
    "perf_hooks", "querystring", "stream", "stream/promises", "string_decoder", "timers", "timers/promises", "url",
    "util", "util/types", "zlib"]) {
    MODULES[name] = MODULES["node:" + name] = name;
  }

  const bytes = Buffer.alloc(32);
  let read = 0;
  while (read < 32) read += readSync(TOKEN, bytes, read, 32 - read);
  closeSync(TOKEN);
  const token = bytes.toString("latin1");
  bytes.fill(0);
  const program = JSON.parse(readFileSync(PROGRAM, "utf8"));
  closeSync(PROGRAM);
  const hasTests = program.tests !== "";

  let count = 0, finished = false, reported = false;

  function report(verdict, kind, message, line) {
    if (reported) return;
    reported = true;
    writeSync(CONTROL, token, null, "latin1");
    writeSync(CONTROL, verdict + "\x1f" + count + "\x1f" + line + "\x1f" + kind + "\x1f" + message, null, "utf8");
    apply(exit, real, [0]);
  }

  // What can be read of a value that was thrown; each reading may run code of the program.
  function attempt(action) {
    try {
      const found = action();
      return typeof found === "string" ? apply(slice, found, [0, 2000]) : "";
    } catch {
      return "";
    }
  }

  function reportError(error) {
    const kind = attempt(() => error.name) || typeof error;
    const code = attempt(() => error.code);
    const message = attempt(() => error.message) || attempt(() => `${error}`);
    const place = apply(exec, /\b(?:solution|tests)\.js:(\d+)/, [attempt(() => error.stack)]);
    const memory = code === "ERR_MEMORY_ALLOCATION_FAILED" || message === "Array buffer allocation failed";
    const verdict = code === "ERR_ASSERTION" ? "assertion" : memory ? "memory" : "exception";
    report(verdict, kind, message, place === null ? "0" : place[1]);
  }

  // The assert of tests: the same functions, each of whose calls is evidence.
  function watched(action) {
    return function (...values) {
      count += 1;
      let result;
      try {
        result = apply(action, this, values);
      } catch (error) {
        writeSync(CONTROL, FALSE, null, "latin1");
        throw error;
      }
      if (result instanceof PromiseOf) {  // of assert.rejects; who waits for it gets the error, too
        apply(then, result, [undefined, () => writeSync(CONTROL, FALSE, null, "latin1")]);
      }
      return result;
    };
  }

  function watchedModule(original, strict) {
    const made = watched(original);
    for (const name of keys(original)) {
      let value = original[name];
      if (name === "strict") value = strict || made;
      else if (typeof value === "function" && name !== "AssertionError" && name !== "Assert") value = watched(value);
      defineProperty(made, name, { value, enumerable: true });
    }
    return freeze(made);
  }

  const strictAssert = watchedModule(originals.strict);
  const testAssert = watchedModule(originals, strictAssert);

  function refuse(name) {
    const error = new ErrorOf("Cannot find module '" + name + "': the sandbox does not have it");
    error.code = "MODULE_NOT_FOUND";
    throw error;
  }

  function makeRequire(assertion, strict, module) {
    function find(name) {
      const known = typeof name === "string" ? MODULES[name] : undefined;
      if (known === undefined) refuse(`${name}`);
      return known === "assert" ? assertion : known === "assert/strict" ? strict : require("node:" + known);
    }
    find.main = module;
    return find;
  }

  registerHooks({
    resolve(name, context, next) {
      return MODULES[name] === undefined ? refuse(name) : next(name, context);
    },
  });

  // Written at once: a program that never comes back to the event loop would have all its output in memory.
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const { wait } = Atomics;
  const { from } = Buffer;
  function writeAll(descriptor, value) {
    const data = typeof value === "string" ? from(value) : value;
    for (let written = 0; written < data.length;) {
      try {
        written += writeSync(descriptor, data, written);
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
        wait(pause, 0, 0, 1);  // the pipe is full
      }
    }
    return true;
  }
  const streams = {};
  for (const [name, descriptor] of [["stdout", 1], ["stderr", 2]]) {
    streams[name] = { isTTY: false, columns: 80, write: (data) => writeAll(descriptor, data) };
  }
  // The real `process` leads to every module and to other ways out.
  const facade = {
    ...streams,
    argv: ["/usr/bin/node", "/tmp/work/solution.js"],
    env: { PATH: "/usr/bin:/bin", HOME: "/tmp", USER: "user", LANG: "C.UTF-8", TZ: "UTC" },
    arch: real.arch, platform: real.platform, pid: 1, version: real.version, versions: { ...real.versions },
    exit: () => apply(exit, real, [0]),
    cwd: () => "/tmp/work",
    hrtime: real.hrtime, memoryUsage: real.memoryUsage, nextTick: real.nextTick, uptime: real.uptime,
    emitWarning() {},
  };
  for (const name of ["on", "once", "off", "addListener", "removeListener", "removeAllListeners"]) {
    facade[name] = () => facade;  // nothing of a program outlives its last statement, or sees its own errors
  }

  const module = { exports: {}, id: ".", filename: "/tmp/work/solution.js", children: [], paths: [] };
  const names = {
    process: facade, module, exports: module.exports, require: makeRequire(originals, originals.strict, module),
    console: new Console({ ...streams, ignoreErrors: false }), assert: originals, __filename: "/tmp/work/solution.js", __dirname: "/tmp/work",
  };
  for (const name of keys(names)) {
    defineProperty(globalThis, name, { value: names[name], writable: true, configurable: true, enumerable: false });
  }

  // Tests stand in a function of their own: they see what the solution declares, and only they see this assert.
  function compileTests(text, filename) {
    const opening = "(function (assert, require) { return (async function () {";
    const options = { filename, lineOffset: 0, columnOffset: -opening.length };
    return new Script(opening + text + "\n})(); })", options);
  }

  let solution, tests;
  writeSync(CONTROL, STARTED, null, "latin1");
  try {
    if (hasTests) solution = new Script(program.code, { filename: "solution.js" });
    tests = compileTests(hasTests ? program.tests : program.code, hasTests ? "tests.js" : "solution.js");
  } catch (error) {
    const place = apply(exec, /^(?:solution|tests)\.js:(\d+)/, [`${error.stack}`]);
    report("syntax", error.name, error.message, place === null ? "0" : place[1]);
  }

  real.setUncaughtExceptionCaptureCallback(reportError);
  real.on("beforeExit", () => {  // nothing is left that could happen
    if (!finished) report("early_exit", "", "it waits for a promise that nothing settles", "0");
    report(count > 0 ? "passed" : "no_tests", "", "", "0");
  });
  const run = Script.prototype.runInThisContext;
  const testRequire = makeRequire(testAssert, strictAssert, module);
  if (hasTests) apply(run, solution, []);
  const done = apply(run, tests, [])(testAssert, testRequire);
  apply(then, done, [() => { finished = true; }, reportError]);
})(require, process);
