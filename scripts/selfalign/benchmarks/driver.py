"""What runs a solution on inputs inside the sandbox and prints its outputs; workers have it and `values` preloaded.

The solution shares this process and can tamper with all of it. It gains nothing: the right outputs are not here.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time

from selfalign.benchmarks.values import decode, encode, shorten

MARK = "\x1e"  # before what is printed at the end; JSON never holds it


def call_within(seconds, function, *arguments):
    """Call a function; past its CPU seconds it is interrupted.

    Raises:
        TimeoutError: it was.
    """

    def stop(*_):
        raise TimeoutError(f"more than {seconds:.2f} CPU seconds for one input")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def run_calls(function, inputs, limit_s, slow, whole, typed):
    """Call a function on each input and print what it returned; return whether all were run.

    Args:
        inputs: JSON of a list of argument lists, each encoded or as an expression.
        limit_s: CPU seconds for one input.
        slow: Number of an input to its own limit.
        whole: Print outputs whole.
        typed: Digests of long outputs tell 1, 1.0 and True apart.
    """
    outputs, seconds = [], []
    kept, sink = sys.stdout, io.StringIO()
    for number, arguments in enumerate(json.loads(inputs)):
        arguments = eval(arguments, {}) if isinstance(arguments, str) else decode(arguments)
        sys.stdout = sink
        start = time.process_time()
        value = call_within(slow.get(number, limit_s), function, *arguments)
        seconds.append(time.process_time() - start)
        encoded = encode(value)
        outputs.append(encoded if whole else shorten(encoded, typed))
        sink.seek(0)
        sink.truncate()
    sys.stdout = kept
    return print_outputs(outputs, seconds)


def run_scripts(source, inputs, limit_s, slow, whole, typed):
    """Run a script once for each standard input and print what it printed; return whether all were run.

    Args:
        source: The script.
        inputs: JSON of a list of texts.
        limit_s, slow, whole, typed: As for `run_calls`.
    """
    outputs, seconds = [], []
    compiled = compile(source, "/solution.py", "exec")
    kept = sys.stdin, sys.stdout

    def run():
        with contextlib.suppress(SystemExit):
            exec(compiled, {"__name__": "__main__", "__builtins__": __builtins__})

    for number, text in enumerate(json.loads(inputs)):
        sys.stdin = give_input(text)
        sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        start = time.process_time()
        call_within(slow.get(number, limit_s), run)
        seconds.append(time.process_time() - start)
        encoded = sys.stdout.buffer.getvalue().decode("utf-8", "replace")
        outputs.append(encoded if whole else shorten(encoded, typed))
    sys.stdin, sys.stdout = kept
    return print_outputs(outputs, seconds)


def time_call(function, arguments, rounds):
    """Time a function, and a fixed piece of work beside it, and print both; return whether it was done.

    Args:
        arguments: JSON of the encoded argument list.
    """
    seconds, work = [], []
    for _ in range(rounds):
        own = decode(json.loads(arguments))
        start = read_clocks()
        function(*own)
        between = read_clocks()
        total = 0
        for number in range(200_000):
            total = (total * 31 + number) % 1_000_003
        end = read_clocks()
        seconds.append(max(b - a for a, b in zip(start, between)))  # noqa: B905
        work.append(max(b - a for a, b in zip(between, end)))  # noqa: B905
    return print_json({"seconds": seconds, "work": work})


def read_clocks():
    """Return CPU seconds of this thread, which are exact, and of the process.

    With a limit of CPU time the kernel counts a process's by its ticks; a function may start threads all the same.
    """
    return time.thread_time(), time.process_time()


def give_input(text):
    """Make a text the standard input, for those who read descriptor 0, too; return the file."""
    file = os.open("input", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.unlink("input")
    data = text.encode()
    while data:
        data = data[os.write(file, data) :]
    os.lseek(file, 0, os.SEEK_SET)
    if file != 0:  # a script that closed it leaves its number free
        os.dup2(file, 0)
        os.close(file)
    return open(0, encoding="utf-8", closefd=False)


def print_outputs(outputs, seconds):
    """Print outputs and CPU seconds as `print_json` does; return whether there are any."""
    return print_json({"outputs": outputs, "seconds": [round(value, 4) for value in seconds]})


def print_json(value):
    """Print a value as one line of JSON behind the mark; return True."""
    sys.stdout.flush()
    data = (MARK + json.dumps(value) + "\n").encode()
    while data:
        data = data[os.write(1, data) :]
    return True
