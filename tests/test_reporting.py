"""The report, made by the real command from a small run: what it shows, that it adds up, and what it refuses."""

import csv
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from reporting_run import CONFIG, make_run

from selfalign.records.files import read_json, read_jsonl, write_json
from selfalign.reporting.artifacts import Score, read_run
from selfalign.reporting.comparisons import comparisons, win_rates
from selfalign.reporting.costs import job_costs
from selfalign.reporting.figures import duration, percent
from selfalign.reporting.funnels import Stage
from selfalign.reporting.markup import Markup, element, table, text
from selfalign.reporting.published import PUBLISHED, published_columns
from selfalign.reporting.sections import funnel_rows
from selfalign.reporting.svg import VARIABLES

SCRIPT = Path(__file__).parent.parent / "scripts" / "write_report.py"
VOID = {"meta", "br", "link", "img", "hr", "input"}
FILES = {
    *("index.html", "summary.txt"),
    *(
        f"figures/{name}.svg"
        for name in ("scores", "funnel_verified", "funnel_random", "responses_self", "passes_self")
    ),
    *("figures/loss.svg", "figures/stages.svg"),
    *(f"tables/{name}.csv" for name in ("scores", "differences", "funnel", "responses", "stages")),
}


def write(results: Path, output: Path) -> subprocess.CompletedProcess:
    """Run the command."""
    return subprocess.run(
        [sys.executable, SCRIPT, "--results", results, "--config", results / "run_config.yaml", "--output", output],
        capture_output=True,
        text=True,
        check=False,
    )


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Return the results of a run; tests do not change them."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def report(results: Path, tmp_path_factory) -> tuple[Path, str]:
    """Return the report's folder and what the command printed."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "experiment.html").write_text("of an earlier run that had experiments")
    done = write(results, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


@pytest.fixture(scope="module")
def page(report) -> str:
    """Return the page."""
    return (report[0] / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def own(results: Path, tmp_path: Path) -> Path:
    """Return a copy of the results that a test may change."""
    return shutil.copytree(results, tmp_path / "results")


class Page(HTMLParser):
    """Collects what the tests look for; fails on tags that do not balance."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        """Return the attributes of all elements of a tag."""
        return [attributes for name, attributes in self.tags if name == tag]


def test_exact_files(report):
    assert set(files(report[0])) == FILES


def test_page_is_well_formed_and_self_contained(page: str):
    parsed = Page(page)
    assert page.startswith("<!doctype html>")
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    addresses = [value for _, given in parsed.tags for name, value in given.items() if name in ("href", "src")]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert not re.findall(r"url\((?!#)|@import", page)
    ids = Counter(given["id"] for _, given in parsed.tags if "id" in given)
    assert [name for name, count in ids.items() if count > 1] == []
    assert {address[1:] for address in addresses} <= set(ids)


def test_page_is_accessible(page: str):
    parsed = Page(page)
    assert parsed.all("html") == [{"lang": "en"}]
    drawings = [given for given in parsed.all("svg") if "role" in given]
    assert len(drawings) == len(parsed.all("svg")) == 2 * 7, "seven figures in two widths"
    assert all(given["role"] == "img" and len(given["aria-label"]) > 20 for given in drawings)
    assert len(parsed.all("table")) == len(parsed.all("caption"))
    assert all(given.get("scope") in ("col", "row") for given in parsed.all("th"))
    assert any(given.get("name") == "viewport" for given in parsed.all("meta"))


def test_figures_follow_light_and_dark(page: str):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    style = page[page.index("<style>") : page.index("</style>")]
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", drawn))
    assert used >= {"ink", "kept", "grid", "series-0", "lost-0"}
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for variable in used:
        assert f"--{variable}:" in light
        assert f"--{variable}:" in dark
    assert not [colour for colour in VARIABLES if f": {colour}" in drawn]


def test_figures_are_svg_with_text(report):
    for path in sorted((report[0] / "figures").iterdir()):
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg", path.name
        words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
        assert len(words) > 3, path.name
    scores = (report[0] / "figures" / "scores.svg").read_text(encoding="utf-8")
    assert "demo-few-shot" in scores
    assert "aligned" in scores


def test_numbers_of_the_run(page: str, results: Path):
    shown = " ".join(" ".join(Page(page).words).split())
    for model, benchmark in (("base", "demo"), ("aligned", "demo"), ("control", "demo"), ("base", "demo-few-shot")):
        found = read_json(results / "scores" / model / benchmark / "scores.json")
        assert f"{model} {benchmark} {100 * found['pass@1']:.1f} %" in shown
    verdicts = Counter(
        row["verdict"] for path in (results / "generations/self/verdicts").glob("*.jsonl") for row in read_jsonl(path)
    )
    dropped = Counter(
        row["drop"] for path in (results / "generations/self/responses").glob("*.jsonl") for row in read_jsonl(path)
    )
    total = dropped.total()
    assert total == verdicts.total() + dropped["no tests section"]
    assert f"{verdicts['passed']} of {total} responses passed" in shown
    for name in ("assertion", "exception"):
        assert f"{verdicts[name]} ({percent(verdicts[name] / total)})" in shown
    pairs = sum(1 for _ in read_jsonl(results / "datasets/verified/pairs.jsonl"))
    assert f"verified: {pairs} pairs" in shown
    stats = (read_json(path) for path in results.rglob("*.json"))
    seconds = sum(found["wall_s"] for found in stats if "wall_s" in found)
    assert f"All jobs together took {duration(seconds)} of wall time" in shown
    for word in ("seed 3407", "commit 0123456789", "torch 2.13.0", "statistics.py:", "(PSF-2.0)", "epochs: 3"):
        assert word in shown, word


def test_tables_add_up(report):
    with open(report[0] / "tables" / "funnel.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for artifact in ("verified", "random"):
        stages: dict[tuple, int] = Counter()
        for row in rows:
            if row["artifact"] == artifact:
                stages[row["part"], row["stage"], int(row["input"]), int(row["kept"])] += int(row["dropped"])
        assert [part for part, *_ in stages] == ["seeds"] * 2 + ["generation"] * 3 + ["selection"] * 3
        for (_, name, entering, kept), lost in stages.items():
            assert entering == kept + lost, name
    with open(report[0] / "tables" / "scores.csv", encoding="utf-8", newline="") as file:
        assert [(row["model"], row["benchmark"]) for row in csv.DictReader(file)] == [
            *(("base", "demo"), ("aligned", "demo"), ("control", "demo"), ("base", "demo-few-shot"))
        ]


def test_hostile_text_is_escaped(page: str):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; $x_1$ \\x00 \\ud800" in page
    assert "<b>3 != 4</b>" not in page
    assert "&lt;b&gt;3 != 4&lt;/b&gt;" in page
    assert "def &lt;lost&gt;_" in page
    assert "\x00" not in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("<a href='x'>&\"", "&lt;a href=&#x27;x&#x27;&gt;&amp;&quot;"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("bell\x07 and \x1b[31m", "bell\\x07 and \\x1b[31m"),
        ("lone \ud800", "lone \\ud800"),
        (Markup("<i>"), "<i>"),
        (12, "12"),
    ],
)
def test_text(value: object, shown: str):
    assert text(value) == shown


def test_attributes_and_cells_are_escaped():
    assert element("p", "<", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;">&lt;</p>'
    assert "<i>" not in table("<i>", ("<i>",), [("<i>", "<i>")])


def test_examples_of_every_drop_reason(page: str):
    shown = " ".join(" ".join(Page(page).words).split())
    told = shown[shown.index("Rows, kept and dropped") : shown.index("Settings and versions")]
    order = [
        "Kept: from a seed",
        "functions of stdlib",
        "concepts of self",
        "instructions of self",
        "responses of self",
    ]
    order += ["verdicts of self", "pairs of verified", "pairs of random"]
    places = [told.index(name) for name in order]
    assert places == sorted(places)
    assert re.search(r"no argument \d+; 2 changed", shown)
    for reason in ("has_argument: no argument", "type_check: type error", "empty", "malformed instruction"):
        assert reason in told
    for reason in ("no tests section", "assertion", "timeout_cpu", "one_per_instruction: another response chosen"):
        assert reason in told
    kept = told[places[0] : places[1]]
    steps = ["Seed: stdlib 3.11.2, statistics.py:", "Concepts", "Instruction (", "Response", "Tests", "Verdict passed;"]
    assert [kept.index(step) for step in steps] == sorted(kept.index(step) for step in steps)


def test_a_stage_with_very_many_reasons_shows_the_commonest():
    dropped = {f"licence: L{number:02}": number for number in range(1, 31)}
    stage = Stage(name="licences", input=500, kept=35, dropped=dropped, part="seeds")
    assert stage.commonest_reasons(2) == ["licence: L30", "licence: L29"]
    shown = str(funnel_rows("caption", [stage]))
    assert f"licence: L11 11, 10 other reasons {sum(range(1, 11))}" in shown


def test_two_writes_are_identical(results: Path, report, tmp_path: Path):
    first = files(report[0])
    assert write(results, report[0]).stdout == report[1]
    assert files(report[0]) == first
    (report[0] / "figures" / "old.svg").write_text("", encoding="utf-8")
    write(results, report[0])
    assert files(report[0]) == first, "a figure of an earlier report is removed"


def test_summary(report, results: Path):
    folder, printed = report
    assert printed == (folder / "summary.txt").read_text(encoding="utf-8")
    lines = printed.splitlines()
    assert lines[0] == "Run tiny, seed 3407, commit 0123456789"
    assert lines[2].split() == ["model", "benchmark", "tasks", "pass@1", "95", "%", "interval"]
    rates = [read_json(results / "scores" / name / "scores.json")["pass@1"] for name in ("base/demo", "aligned/demo")]
    assert lines[3].split()[:5] == ["base", "demo", "40", f"{100 * rates[0]:.1f}", "%"]
    assert printed.isascii(), "whatever the terminal's encoding"
    compared = [line for line in lines if "cludes 0" in line]
    assert [line.split("  ")[0] for line in compared] == [
        *("aligned - base", "aligned - control", "aligned - base on demo-few-shot"),
        *("control - base", "control - base on demo-few-shot"),
    ]
    assert f"+{100 * (rates[1] - rates[0]):.1f}" in compared[0]
    assert compared[0].endswith("excludes 0: aligned is better")
    assert lines[-1].split() == ["report", str(folder / "index.html")]
    assert any(line.startswith("pairs in random") and "of them verified" in line for line in lines)


def test_comparisons_are_of_equal_tasks_and_related_models(results: Path):
    run = read_run(results, CONFIG)
    other = {name: entry for name, entry in CONFIG["models"].items() if name != "aligned"}
    found = comparisons(run.scores, other | {"aligned": {"pretrained": "x"}})
    assert [comparison.label for comparison in found] == ["control − base", "control − base on demo-few-shot"]
    for comparison in comparisons(run.scores, CONFIG["models"]):
        assert comparison.low <= comparison.difference <= comparison.high
        assert comparison.difference == pytest.approx(comparison.first.pass_at_1 - comparison.second.pass_at_1)
        assert comparison.decided == ("excludes 0" in comparison.words)


def test_pass_rates(results: Path):
    made = read_run(results, CONFIG).generations["self"]
    assert sum(total for _, total in made.by_category.values()) == made.responses
    assert sum(passed for passed, _ in made.by_difficulty.values()) == made.outcomes["passed"]
    assert sum(count * passed for passed, count in made.passes.items()) == made.outcomes["passed"]
    assert sum(made.passes.values()) == made.stages[1].kept
    assert [stage.name for stage in made.stages] == ["concepts", "instructions", "responses", "verdicts"]


def test_an_error_is_one_line_without_a_traceback(own: Path, tmp_path: Path):
    (own / "run_config.yaml").write_text("run: a\n", encoding="utf-8")
    done = write(own, tmp_path / "report")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*run_config.yaml: not a merged config: seed, .*\n", done.stderr)


def test_only_scores(own: Path, tmp_path: Path):
    config = CONFIG | {"corpora": {}, "generations": {}, "datasets": {}, "models": {"base": CONFIG["models"]["base"]}}
    config["evaluate"] = [{"models": ["base"], "benchmarks": ["demo"]}]
    (own / "run_config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = write(own, tmp_path / "report")
    assert (done.returncode, done.stderr) == (0, "")
    parsed = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert [given["id"] for given in parsed.all("section")] == ["scores", "throughput", "settings"]
    assert {path.name for path in (tmp_path / "report" / "figures").iterdir()} == {"scores.svg", "stages.svg"}
    assert "paired difference" not in done.stdout, "nothing to compare with"


def test_nothing_made_yet(tmp_path: Path):
    (tmp_path / "run_config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    done = write(tmp_path, tmp_path / "report")
    assert (done.returncode, done.stderr) == (0, "")
    parsed = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert [given["id"] for given in parsed.all("section")] == ["settings"]
    for name in (
        "corpus stdlib",
        "generation self",
        "dataset verified",
        "model control",
        "score base on demo-few-shot",
    ):
        assert name in done.stdout


def test_shards_of_an_earlier_config_are_not_read(own: Path, results: Path):
    stale = own / "generations/self/responses/00002.jsonl"
    stale.write_text("not read", encoding="utf-8")
    assert read_run(own, CONFIG).generations == read_run(results, CONFIG).generations


def test_times_that_snakemake_recorded(tmp_path: Path):
    for part, cpu in (("00000", "4.5"), ("00001", "1.5")):
        (tmp_path / f"{part}.benchmark.tsv").write_text(f"s\th:m:s\tcpu_time\n2.25\t0:00:02\t{cpu}\n", encoding="utf-8")
    (cost,) = job_costs("filter_functions", "stdlib", [tmp_path / part for part in ("00000", "00001", "00002")])
    assert (cost.jobs, cost.wall_s, cost.cpu_s, cost.rows) == (2, 4.5, 6.0, None)
    (tmp_path / "00001.benchmark.tsv").write_text("s\tcpu_time\n0.1\tNA\n", encoding="utf-8")
    (cost,) = job_costs("filter_functions", "stdlib", [tmp_path / "00000", tmp_path / "00001"])
    assert (cost.wall_s, cost.cpu_s) == (2.35, None)
    (tmp_path / "00001.benchmark.tsv").write_text("nothing\n1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="00001"):
        job_costs("filter_functions", "stdlib", [tmp_path / "00000", tmp_path / "00001"])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds: float, shown: str):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"),
        (0.004, "0.4 %"),
        (0.0994, "9.9 %"),
        (0.0996, "10 %"),
        (0.256, "26 %"),
        (0.9964, "99.6 %"),
        (0.99999, "99.9 %"),
        (1, "100 %"),
    ],
)
def test_percent(share: float, shown: str):
    assert percent(share) == shown


PUBLISHED_COLUMNS = [
    # source of the score, id of its first task, columns of the paper
    ({"kind": "evalplus"}, "HumanEval/0", {"plus": "HumanEval+"}),
    ({"kind": "evalplus"}, "Mbpp/2", {"plus": "MBPP+"}),
    ({"kind": "livecodebench", "options": {"start_date": "2023-09-01"}}, "x", {"pass": "LiveCodeBench from 2023-09"}),
    ({"kind": "livecodebench", "options": {"start_date": "2023-09-02"}}, "x", {}),
    ({"kind": "livecodebench", "options": {}}, "x", {}),
    ({"kind": "evoeval", "files": {"EvoEval_subtle.jsonl.gz": ""}}, "EvoEval/0", {"pass": "EvoEval subtle"}),
    ({"kind": "classeval"}, "x", {"class": "ClassEval class", "method": "ClassEval method"}),
    ({"kind": "demo"}, "demo-0", {}),
]


@pytest.mark.parametrize(("source", "task", "columns"), PUBLISHED_COLUMNS)
def test_scores_find_their_column_of_the_paper(source, task, columns):
    score = Score(
        model="m", benchmark="b", tasks=1, samples=1, pass_at_1=0.0, low=0.0, high=0.0, verdicts={},
        per_task={task: 0.0}, data={"source": source},
    )  # fmt: skip
    assert published_columns(score) == columns
    assert set(columns.values()) <= PUBLISHED.keys()


def test_published_rows_stand_beside_measured_ones_and_are_marked(own: Path, tmp_path: Path):
    path = own / "scores/base/demo/scores.json"
    score = read_json(path)
    per_task = {f"Mbpp/{number}": value for number, value in enumerate(score["per_task"].values())}
    metric = {"pass@1": 0.25, "interval": [0.2, 0.3]}
    more = {
        "metrics": {"plus": metric, "base": metric | {"pass@1": 0.5}},
        "source": {"kind": "evalplus", "options": {}, "files": {}},
        "extra": {"made_up": {"value": 0.125}, "dps": {"value": 0.3, "per_task": {"Mbpp/1": 0.2, "Mbpp/2": 0.4}}},
        "left_out": {"Mbpp/999": "plus: its reference solution ends with timeout_cpu ()"},
        "per_task": per_task,
    }
    write_json(path, score | more)
    rival = own / "scores/aligned/demo/scores.json"
    write_json(rival, read_json(rival) | {"extra": {"dps": {"value": 0.3, "per_task": {"Mbpp/1": 0.3, "Mbpp/2": 0.4}}}})
    done = write(own, tmp_path / "report")
    assert (done.returncode, done.stderr) == (0, "")
    parsed = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    words = " ".join(parsed.words)
    for expected in (
        "25.0 (20.0–30.0)",
        "50.0 (20.0–30.0)",
        "12.5",
        "demo: win_rate",
        "75.0",
        "Published in arXiv 2410.24198, not measured here",
        "table 1: MBPP+",
        "SelfCodeAlign-CQ-7B",
        "Mbpp/999",
        "are not scored",
    ):
        assert expected in words


def _performance(model: str, per_task: dict[str, float], benchmark: str = "evalperf") -> Score:
    return Score(
        model=model, benchmark=benchmark, tasks=1, samples=1, pass_at_1=0.0, low=0.0, high=0.0, verdicts={},
        per_task={"t": 0.0}, data={"extra": {"dps": {"value": 0.0, "per_task": per_task}}},
    )  # fmt: skip


WIN_RATES = [
    # differential performance scores of each model, their win rates
    ({"a": {"t": 0.9, "u": 0.1}, "b": {"t": 0.5, "u": 0.5}}, {"a": 0.5, "b": 0.5}),
    ({"a": {"t": 0.9, "u": 0.5}, "b": {"t": 0.5, "u": 0.5}}, {"a": 0.75, "b": 0.25}),
    # a and b meet on t and u, a and c on t, b and c on t: a wins 2 of 3, b 1 of 3, and half of a tie
    ({"a": {"t": 0.9, "u": 0.1}, "b": {"t": 0.5, "u": 0.2}, "c": {"t": 0.5}}, {"a": 2 / 3, "b": 0.5, "c": 0.25}),
    ({"a": {"t": 0.9}, "b": {"u": 0.5}}, {}),
    ({"a": {"t": 0.9}}, {}),
    ({"a": {"t": 0.9}, "b": {}}, {}),
]


@pytest.mark.parametrize(("scores", "rates"), WIN_RATES)
def test_models_win_on_tasks_that_both_have_a_score_of(scores, rates):
    found = win_rates([_performance(model, per_task) for model, per_task in scores.items()])
    assert found == {("evalperf", model): pytest.approx(rate) for model, rate in rates.items()}


def test_models_of_other_benchmarks_do_not_meet():
    assert win_rates([_performance("a", {"t": 1.0}), _performance("b", {"t": 0.0}, benchmark="other")]) == {}
