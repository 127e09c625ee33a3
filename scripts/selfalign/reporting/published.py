"""What the paper's tables 1 to 7 say of other models (arXiv 2410.24198): published there, never measured here."""

from collections.abc import Mapping

from selfalign.reporting.artifacts import Score

PAPER = "arXiv 2410.24198"
CODEQWEN, ALIGNED = "CodeQwen1.5-7B-Base", "SelfCodeAlign-CQ-7B"
SEVEN = (  # the models of tables 2, 3, 5, 6 and 7, in their order
    "DeepSeek-Coder-6.7B-Instruct",
    "CodeGemma-7B-IT",
    "Llama-3-8B-Instruct",
    CODEQWEN,
    "CodeQwen1.5-7B-Chat",
    "OctoCoder-16B",
    "StarCoder2-15B",
    "CodeQwen1.5-7B-OctoPack",
    ALIGNED,
)


def _of_seven(*values: float) -> dict[str, float]:
    return dict(zip(SEVEN, values, strict=True))


_TABLE_1 = {  # HumanEval+ and MBPP+
    "GPT-4-Turbo": (81.7, 70.7),
    "Mistral Large": (62.8, 56.6),
    "Gemini Pro": (55.5, 57.9),
    "Llama3-70B-Instruct": (70.7, 66.4),
    "CodeLlama-70B-Instruct": (65.2, 61.7),
    "WizardCoder-33B-v1.1": (73.2, 66.9),
    "OpenCodeInterpreter-DS-33B": (73.8, 67.7),
    "Magicoder-S-DS-6.7B": (70.7, 65.4),
    "DeepSeek-Coder-33B-Instruct": (75.0, 66.7),
    "CodeQwen1.5-7B-Chat": (77.7, 67.2),
    "Snowflake Arctic (480B)": (64.3, 64.3),
    "Mixtral-8x22B-Instruct": (70.1, 62.9),
    "Command-R+": (56.7, 58.6),
    "Mixtral-8x7B-Instruct": (39.6, 49.7),
    "OctoCoder-16B": (32.9, 49.1),
    "StarCoder2-15B": (37.8, 53.1),
    CODEQWEN: (45.7, 60.2),
    "CodeQwen1.5-7B-OctoPack": (50.6, 63.2),
    ALIGNED: (67.1, 65.2),
}
_TABLE_4 = {  # EvalPerf: differential performance score, pass@1, win rate
    "DeepSeek-Coder-6.7B-Instruct": (83.6, 73.6, 63.9),
    "Llama-3.1-8B-Instruct": (80.9, 64.3, 52.1),
    "Llama-3-8B-Instruct": (77.0, 43.7, 51.5),
    "CodeQwen1.5-7B-Chat": (80.7, 74.1, 51.2),
    "CodeQwen1.5-7B-OctoPack": (74.0, 49.1, 26.9),
    ALIGNED: (79.9, 65.2, 54.0),
}


def _column(table: Mapping[str, tuple[float, ...]], place: int) -> dict[str, float]:
    return {model: values[place] for model, values in table.items()}


# What is scored to the paper's table and its models' scores, in percent
PUBLISHED: dict[str, tuple[int, dict[str, float]]] = {
    "HumanEval+": (1, _column(_TABLE_1, 0)),
    "MBPP+": (1, _column(_TABLE_1, 1)),
    "LiveCodeBench from 2023-09": (2, _of_seven(19.2, 15.2, 18.3, 19.3, 23.2, 12.6, 14.5, 19.3, 22.4)),
    "LiveCodeBench from 2023-07": (2, _of_seven(20.8, 14.1, 18.4, 20.7, 24.1, 11.2, 14.7, 21.8, 22.8)),
    "LiveCodeBench from 2023-05": (2, _of_seven(21.6, 13.6, 17.3, 21.8, 25.0, 9.8, 15.4, 22.5, 23.4)),
    "EvoEval difficult": (3, _of_seven(40, 31, 34, 26, 39, 19, 16, 35, 33)),
    "EvoEval creative": (3, _of_seven(37, 32, 39, 30, 38, 26, 19, 36, 40)),
    "EvoEval subtle": (3, _of_seven(61, 49, 57, 41, 71, 43, 41, 59, 60)),
    "EvoEval combine": (3, _of_seven(18, 9, 15, 18, 31, 11, 5, 22, 20)),
    "EvoEval tool_use": (3, _of_seven(51, 56, 58, 61, 61, 54, 48, 59, 65)),
    "EvalPerf DPS": (4, _column(_TABLE_4, 0)),
    "EvalPerf pass@1": (4, _column(_TABLE_4, 1)),
    "EvalPerf win rate": (4, _column(_TABLE_4, 2)),
    "ClassEval class": (5, _of_seven(27.0, 21.0, 23.0, 23.0, 27.0, 19.0, 9.0, 21.0, 27.0)),
    "ClassEval method": (5, _of_seven(57.2, 44.8, 52.4, 52.8, 54.6, 38.0, 24.9, 45.2, 52.6)),
    "DS-1000": (6, _of_seven(44.6, 30.8, 31.1, 32.4, 47.1, 28.3, 38.9, 38.2, 39.1)),
    "CanItEdit": (7, _of_seven(36.3, 34.2, 36.0, 38.4, 39.9, 30.2, 36.7, 36.5, 39.0)),
}


def published_columns(score: Score) -> dict[str, str]:
    """Return for each metric of a score that the paper has, too, its name in `PUBLISHED`."""
    source = score.data.get("source", {})
    options, first = source.get("options", {}), next(iter(score.per_task), "")
    match source.get("kind"):
        case "evalplus":
            return {"plus": "HumanEval+" if first.startswith("HumanEval") else "MBPP+"}
        case "livecodebench":
            name = f"LiveCodeBench from {str(options.get('start_date') or '')[:7]}"
            return {"pass": name} if name in PUBLISHED and options["start_date"].endswith("-01") else {}
        case "evoeval":
            names = [name for name in PUBLISHED if name.startswith("EvoEval ")]
            found = [name for name in names if any(name.split()[1] in file for file in source["files"])]
            return {"pass": found[0]} if len(found) == 1 else {}
        case "evalperf":
            return {"pass": "EvalPerf pass@1", "dps": "EvalPerf DPS", "win_rate": "EvalPerf win rate"}
        case "classeval":
            return {"class": "ClassEval class", "method": "ClassEval method"}
        case "ds1000":
            return {"pass": "DS-1000"}
        case "canitedit":
            return {"pass": "CanItEdit"}
    return {}
