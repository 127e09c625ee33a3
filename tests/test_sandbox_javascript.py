"""JavaScript in the sandbox, run for real: hostile programs get what they deserve, ordinary ones pass."""

import pytest

from selfalign.records.rows import Verdict
from selfalign.sandbox import Program, Sandbox, SandboxSettings

SETTINGS = SandboxSettings(cpu_s=1.0, wall_factor=1.0, memory_mb=128, output_kb=64, disk_mb=4)

# name: (verdict, solution, tests)
PROGRAMS = {
    "ordinary": ("passed", "const double = (x) => 2 * x;\n", "assert.deepStrictEqual([1].map(double), [2]);\n"),
    "class with private fields": ("passed", "class A { #x = 1; get x() { return this.#x; } }", "assert(new A().x)"),
    "imports assert itself": (
        "passed",
        "const assert = require('assert');\nmodule.exports = (x) => x;\n",
        "const assert = require('node:assert/strict');\nassert.equal(module.exports(1), 1);\n",
    ),
    "async tests nobody waits for": (
        "passed",
        "const f = async (x) => x;",
        "(async () => { assert.equal(await f(1), 1); })(); await assert.rejects(async () => { throw new Error(); });",
    ),
    "prints": ("passed", "console.log({ a: 1 }); console.error('x'); process.stdout.write('y');", "assert.ok(1)"),
    "without a test part": ("passed", "const x = 3;\nassert.equal(x, 3);\n", ""),
    "half a character": ("passed", "const s = '\ud800';", "assert.equal(s.length, 1)"),
    "wrong": ("assertion", "const double = (x) => x;", "assert.equal(double(2), 4)"),
    "wrong, much later": ("assertion", "", "assert(1); setTimeout(() => assert.equal(1, 2), 10);"),
    "throws": ("exception", "", "assert(1);\n\nthrow new TypeError('no');"),
    "throws nothing like an error": ("exception", "", "assert(1); throw null;"),
    "error whose message exits": (
        "early_exit",
        "class E extends Error { get message() { process.exit(0); } set message(x) {} }",
        "assert(1); throw new E();",
    ),
    "rejection nobody handles": ("exception", "", "assert(1); Promise.reject(new Error('x'));"),
    "its own handler of errors": (
        "exception",
        "process.on('uncaughtException', () => {}); process.on('unhandledRejection', () => {});",
        "assert(1); throw new Error('x');",
    ),
    "broken": ("syntax", "const x = 1;\nconst y =", "assert(1)"),
    "no assertion": ("no_tests", "const f = (x) => x;", "if (f(1) !== 1) throw new Error();"),
    "precondition as only assertion": ("no_tests", "function f(x) { assert(x > 0); return x; }", "f(1);"),
    "swallowed": ("swallowed_assertion", "", "try { assert.equal(1, 2); } catch {}"),
    "swallowed rejection": ("swallowed_assertion", "", "assert.rejects(async () => 1).catch(() => {});"),
    "exit": ("early_exit", "const f = () => process.exit(0);", "assert(1); f(); assert(0);"),
    "exit by a timer": (
        "early_exit",
        "setTimeout(() => process.exit(0), 5);",
        "assert(1); await new Promise((done) => setTimeout(done, 50)); assert(0);",
    ),
    "waits for ever": ("early_exit", "", "assert(1); await new Promise(() => {}); assert(0);"),
    "patched assert": (
        "assertion",
        "const a = require('assert'); for (const name in a) a[name] = () => {}; assert.equal = () => {};"
        "Object.defineProperty(globalThis, 'assert', { value: () => {} });",
        "assert.deepStrictEqual(1, 2)",
    ),
    "patched builtins": (
        "assertion",
        "Promise.prototype.then = (done) => done(); Reflect.apply = () => {}; RegExp.prototype.exec = () => null;"
        "Function.prototype.call = Function.prototype.apply = () => {}; Object.keys = () => [];"
        "Array.prototype[Symbol.iterator] = function* () {};",
        "assert.deepStrictEqual([1], [2])",
    ),
    "frames of the harness": (
        "passed",
        "Error.prepareStackTrace = (error, calls) => calls.map((call) => [call.getFunction(), call.getThis()]);",
        "const found = new Error().stack.flat().filter((one) => one && one !== globalThis && one.name !== '');"
        "assert.deepEqual(found, []); assert.equal(process.binding ?? process.getBuiltinModule, undefined);",
    ),
    "other modules": (
        "passed",
        "const names = ['fs', 'node:fs', 'child_process', 'worker_threads', 'vm', 'v8', 'inspector', 'module', './x'];",
        "for (const name of names) assert.throws(() => require(name), { code: 'MODULE_NOT_FOUND' });\n"
        "const late = Promise.resolve('import(\"fs\")').then(eval);\nawait assert.rejects(late);\n"
        "await assert.rejects(import('node:fs'));\n",
    ),
    "network": ("passed", "", "assert((await fetch('http://1.1.1.1/').catch((error) => error)) instanceof Error)"),
    "endless loop": ("timeout_cpu", "for (;;);", "assert(1)"),
    "endless promises": ("timeout_cpu", "", "assert(1); const f = () => Promise.resolve().then(f); f();"),
    "endless timer": ("timeout_wall", "setInterval(() => {}, 1000);", "assert(1)"),
    "memory": ("memory", "const blocks = []; for (;;) blocks.push(new Uint8Array(1 << 24).fill(1));", "assert(1)"),
    "heap": ("memory", "let s = []; for (;;) s.push('x'.repeat(1 << 20).split(''));", "assert(1)"),
    "recursion": ("passed", "const f = () => f();", "assert.throws(f, RangeError)"),
    "output": ("output_limit", "for (;;) console.log('x'.repeat(1000));", "assert(1)"),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    programs = [
        Program(id=name, code=code, tests=tests, cpu_s=4.0 if expected == "memory" else None)
        for name, (expected, code, tests) in PROGRAMS.items()
    ]
    return {verdict.id: verdict for verdict in Sandbox(SETTINGS, workers=2, language="javascript").run(programs)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_verdict(name: str, verdicts: dict[str, Verdict]) -> None:
    found = verdicts[name]
    assert (found.verdict, found.core) == (PROGRAMS[name][0], "node"), found


def test_details(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["throws"].detail == "TypeError: no (line 3)"
    assert verdicts["broken"].detail == "SyntaxError: Unexpected end of input (line 2)"
    assert verdicts["wrong"].detail == "AssertionError: 2 == 4 (line 1)"
    assert verdicts["ordinary"].assertions == 1
