"""The documents are true: messages that they quote are in the code, links lead somewhere, commands exist."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from selfalign.workflow.configuration import load_configuration

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Messages of other programs, which our code does not hold.
NOT_OURS = {"make: command not found", "No matching distribution found", "CUDA out of memory", "Killed",
            "Directory cannot be locked", "config.yaml", "No such file or directory: 'which'"}  # fmt: skip


def templates(path: Path) -> list[str]:
    """Return the texts of a Python file, with `…` where a value is filled in."""
    texts = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return texts


@pytest.fixture(scope="module")
def messages() -> str:
    """Return everything that our code can say; values that are filled in are `…`."""
    texts = [text for path in (ROOT / "scripts").rglob("*.py") for text in templates(path)]
    for path in (ROOT / "rules").glob("*.smk"):  # no Python that ast would read
        joined = re.sub(r'"\n\s*f?"', "", path.read_text(encoding="utf-8"))
        texts.append(re.sub(r"\{[^{}]*\}", "…", joined))
    installer = (ROOT / "envs/install.sh").read_text(encoding="utf-8")
    texts.append(re.sub(r"\$\((?:[^()]|\([^()]*\))*\)|\$\{[^}]*\}|\$\w+", "…", installer))
    return "\n".join(texts)


def quoted_messages() -> list[str]:
    headings = re.findall(r"^### (.*)$", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    return [text for heading in headings for text in re.findall(r"`([^`]+)`", heading) if text not in NOT_OURS]


def test_there_are_messages_to_check() -> None:
    assert len(quoted_messages()) >= 25


@pytest.mark.parametrize("message", quoted_messages())
def test_quoted_message_is_in_the_code(message: str, messages: str) -> None:
    for fragment in message.split("…"):
        fragment = fragment.strip(" .,:;'")
        assert fragment in messages, f"no message says {fragment!r}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith(("https://", "http://")):
            assert (path.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_and_commands_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for verb in re.findall(r"`(?:\w+=\S+ )?make ([\w.-]+)", text):
        assert verb in verbs, f"make {verb}"
    for name in re.findall(
        r"(?<![\w/{])((?:scripts|rules|envs|recipes|resources|tests|docs|profiles)/[\w./+-]+\w)", text
    ):
        if path.name != "architecture.md" and "verb_noun" not in name:
            assert (ROOT / name).exists(), name


def test_readme_is_found_by_the_workflow_catalog() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").lower()
    assert "snakemake" in text
    assert "workflow" in text
    assert (ROOT / "Snakefile").exists()


def test_readme_example_is_a_valid_config() -> None:
    """Put into config.yaml, as the README says, it loads, and the paper's defaults hold."""
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")) | yaml.safe_load(example)
    loaded = load_configuration(config, ROOT)
    assert loaded["generations"]["self"]["shots"] == {"concepts": 8, "instruction": 8, "response": 1, "tests": 4}
    assert loaded["models"]["aligned"]["train"]["learning_rate"] == 1e-5


def test_readme_tree_names_what_is_there() -> None:
    tree = re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert tree
    folder, named = "", set()
    for line in tree[1].splitlines():
        name = line.split()[0]
        if line.startswith("  "):
            name = folder + name
        elif name.endswith("/"):
            folder = name
        if not line.startswith("results/") and not (line.startswith("  ") and folder == "results/"):
            assert (ROOT / name).exists(), name
        named.add(name.rstrip("/"))
    rooms = {path.parent.name for path in (ROOT / "scripts/selfalign").glob("*/__init__.py")}
    assert "scripts/selfalign" in named
    assert rooms


def test_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2410.24198"
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Wei", "Cassano", "Liu", "Ding", "Jain", "Mueller", "Vries", "Werra", "Guha", "Zhang"]


def test_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text
    assert [number for number in range(1, 10) if not re.search(rf"^   {number}\. ", text, re.MULTILINE)] == []


def test_picture_is_well_formed_and_made_for_light_and_dark() -> None:
    text = (ROOT / "docs/pipeline.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "it loads nothing"
