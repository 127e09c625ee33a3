"""All kinds of benchmarks, by the name that the config gives them."""

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.canitedit import CanItEdit
from selfalign.benchmarks.classeval import ClassEval
from selfalign.benchmarks.demo import Demo
from selfalign.benchmarks.ds1000 import DS1000
from selfalign.benchmarks.evalperf import EvalPerf
from selfalign.benchmarks.evalplus import EvalPlus
from selfalign.benchmarks.evoeval import EvoEval
from selfalign.benchmarks.humaneval import HumanEval
from selfalign.benchmarks.livecodebench import LiveCodeBench
from selfalign.benchmarks.mbpp import Mbpp

KINDS: dict[str, Benchmark] = {
    "canitedit": CanItEdit(),
    "classeval": ClassEval(),
    "demo": Demo(),
    "ds1000": DS1000(),
    "evalperf": EvalPerf(),
    "evalplus": EvalPlus(),
    "evoeval": EvoEval(),
    "humaneval": HumanEval(),
    "livecodebench": LiveCodeBench(),
    "mbpp": Mbpp(),
}
