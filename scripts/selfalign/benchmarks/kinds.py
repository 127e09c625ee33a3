"""All kinds of benchmarks, by the name that the config gives them."""

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.demo import Demo
from selfalign.benchmarks.humaneval import HumanEval

KINDS: dict[str, Benchmark] = {"demo": Demo(), "humaneval": HumanEval()}
