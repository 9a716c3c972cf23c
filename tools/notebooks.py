"""Write, check and run the course's notebooks.

    python -m tools.notebooks build SOURCE.txt notebooks/NN_name.ipynb   # from plain text python -m
    tools.notebooks text notebooks/NN_name.ipynb > SOURCE.txt  # back to plain text, to edit python
    -m tools.notebooks format notebooks/*.ipynb                   # strip outputs, canonical JSON
    python -m tools.notebooks check notebooks/*.ipynb                    # the rules of style,
    without running python -m tools.notebooks run [--solved] notebooks/*.ipynb           # run from
    the recordings

The plain text is cells, each headed by a line ``%% md ID`` or ``%% code ID``. An id begins with its
kind: question, setup, recipe, predict, run, look, explain, break, exercise, check, takeaway
("run-placeholder"). The ids of an exercise's two cells are "exercise-" and "check-" and the
exercise's own id.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from trtlearn.course import exercise
from trtlearn.course.notebook import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[1]

KINDS = (
    "question",
    "setup",
    "recipe",
    "predict",
    "run",
    "look",
    "explain",
    "break",
    "exercise",
    "takeaway",
)
SPINE = (
    "question",
    "setup",
    "predict",
    "run",
    "break",
    "exercise",
    "takeaway",
)  # in this order
MAY_LACK = "recipe"  # the only kind that a notebook may do without
MOST_CELLS, MOST_LINES = 60, 40
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL = re.compile(r"^%% (md|code) ([a-z0-9-]+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CHECK = re.compile(r'^(?:exercises?\.)?check\("([^"]+)", .+\)$')


def kind(cell: nbformat.NotebookNode) -> str:
    """The first word of a cell's id."""
    return str(cell.id).split("-")[0]


def build(text: str) -> nbformat.NotebookNode:
    """The notebook that the plain text says."""
    pieces = CELL.split(text)
    if pieces[0].strip() or len(pieces) < 4:
        raise SystemExit("the text must begin with a line such as '%% md question'")
    book = nbformat.v4.new_notebook(metadata=METADATA)
    make = {"md": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    for type_, name, source in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        book.cells.append(make[type_](source.strip("\n"), id=name))
    return book


def as_text(book: nbformat.NotebookNode) -> str:
    """The plain text of a notebook: ``build`` gives the notebook back."""
    types = {"markdown": "md", "code": "code"}
    return (
        "\n\n".join(f"%% {types[cell.cell_type]} {cell.id}\n{cell.source}" for cell in book.cells)
        + "\n"
    )


def canonical(book: nbformat.NotebookNode) -> str:
    """The notebook's JSON with nothing in it that running or another editor would change."""
    clean = build(as_text(book))
    for old, new in zip(book.cells, clean.cells, strict=True):
        if tags := old.metadata.get("tags"):
            new.metadata["tags"] = list(tags)
    return str(nbformat.writes(clean, indent=1, ensure_ascii=False)).rstrip("\n") + "\n"


def read(path: Path) -> nbformat.NotebookNode:
    """The notebook at ``path``, in the newest format."""
    return nbformat.read(path, as_version=4)


def problems(path: Path) -> list[str]:
    """What breaks the rules of style in the notebook at ``path``, one line each."""
    book, number = read(path), path.name[:2]
    cells, found = book.cells, []
    say = found.append
    names = [str(cell.id) for cell in cells]
    if len(cells) > MOST_CELLS:
        say(f"{len(cells)} cells, at most {MOST_CELLS}")
    if path.read_text(encoding="utf-8") != canonical(book):
        say("not in canonical form: run `python -m tools.notebooks format` on it")
    if NOTEBOOKS.get(number, ("", ""))[0] != path.name:
        say("its name is not in trtlearn.course.NOTEBOOKS")
    elif not cells[0].source.startswith(f"# {number} · {NOTEBOOKS[number][1]}"):
        say(f'the first line is not "# {number} · {NOTEBOOKS[number][1]}"')
    if len(set(names)) != len(names):
        say("two cells have the same id")
    order = [kind(cell) for cell in cells]
    if unknown := sorted(set(order) - set(KINDS)):
        say(f"ids that begin with no known kind: {unknown}")
    elif missing := [one for one in KINDS if one not in (*order, MAY_LACK)]:
        say(f"no cell of kind {missing}")
    elif (firsts := sorted(SPINE, key=order.index)) != list(SPINE):
        say(f"the kinds first appear in the order {firsts}")
    elif (
        not order.index("run")
        < min(order.index("look"), order.index("explain"))
        < order.index("exercise")
    ):
        say("look and explain first appear before run or after exercise")
    if order[:2] != ["question", "setup"] or order[-1] != "takeaway":
        say("it must begin with question and setup and end with takeaway")
    for cell in cells:
        if cell.cell_type == "code" and len(cell.source.splitlines()) > MOST_LINES:
            say(f"{cell.id}: {len(cell.source.splitlines())} lines, at most {MOST_LINES}")
        if cell.cell_type == "code" and (cell.get("outputs") or cell.get("execution_count")):
            say(f"{cell.id}: has outputs")
        if cell.cell_type == "markdown":
            found += [
                f"{cell.id}: link to {to} leads nowhere"
                for to in broken_links(cell.source, path.parent)
            ]
        if kind(cell) == "explain" and not re.search(r"documented|measured|inferred", cell.source):
            say(f"{cell.id}: says nothing about documented, measured or inferred")
    if order and not LINK.search(cells[-1].source):
        say("takeaway: no link onward")
    return found + exercise_problems(number, cells)


def needed(book: nbformat.NotebookNode, cell_id: str) -> list[nbformat.NotebookNode]:
    """The code cell with this id, and the earlier ones that define what it needs, in order."""
    ids = [cell.id for cell in book.cells]
    kept: list[nbformat.NotebookNode] = []
    wanted: set[str] = set()
    for cell in reversed(book.cells[: ids.index(cell_id) + 1]):
        if cell.cell_type == "code":
            defined, used = names_in(cell.source)
            if not kept or defined & wanted:
                kept.append(cell)
                wanted = (wanted - defined) | used
    return kept[::-1]


def names_in(source: str) -> tuple[set[str], set[str]]:
    """The names that a piece of code defines, and those that it needs from before."""
    defined: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (defined if isinstance(node.ctx, ast.Store) else used).add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
    return defined, used - defined


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links of markdown ``text`` that name no file below or beside ``folder``."""
    targets = (to.split("#")[0] for to in LINK.findall(text) if not re.match(r"[a-z]+:|#", to))
    return [to for to in targets if not (folder / to).exists()]


def exercise_problems(number: str, cells: list[nbformat.NotebookNode]) -> list[str]:
    """Exercises without cells, cells without exercises, checks that CI could not run."""
    names = [str(cell.id) for cell in cells]
    here = {name.partition("-")[2] for name in names if name.startswith("exercise-")}
    known = {one for one in exercise.ids() if one.startswith(f"{number}-")}
    tasks = {one for one in known if isinstance(exercise.get(one), exercise.Exercise)}
    found = [
        f"{one}: a cell, but no exercise in trtlearn/course/chapters/ch{number}.py"
        for one in sorted(here - tasks)
    ]
    found += [f"{one}: an exercise, but no cell exercise-{one}" for one in sorted(tasks - here)]
    for one in sorted(here & tasks):
        lines = next(cell.source for cell in cells if cell.id == f"exercise-{one}").splitlines()
        match = CHECK.match(lines[-1]) if lines else None
        if not match or match[1] != one:
            found.append(f'exercise-{one}: its last line must be check("{one}", YOUR_ANSWER)')
    text = "\n".join(cell.source for cell in cells)
    found += [
        f"{one}: a prediction that no cell asks"
        for one in sorted(known - tasks)
        if f'predict("{one}"' not in text
    ]
    return found


def solved(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with every exercise solved, its check required to pass, and to fail for each
    wrong answer.
    """
    result = nbformat.v4.new_notebook(metadata=METADATA)
    for cell in book.cells:
        if kind(cell) != "exercise" or cell.cell_type != "code":
            result.cells.append(cell)
            continue
        entry = exercise.get(str(cell.id).partition("-")[2])
        check = cell.source.splitlines()[-1]
        passes = f"_verdict = {check}\nassert _verdict.passed is True, str(_verdict)"
        fails = f"_verdict = {check}\nassert _verdict.passed is False, str(_verdict)"
        result.cells.append(nbformat.v4.new_code_cell(f"{entry.solution}\n{check}", id=cell.id))
        sources = [passes, *(f"{wrong}\n{fails}" for wrong in entry.wrong), entry.solution]
        result.cells += [nbformat.v4.new_code_cell(source) for source in sources]
    return result


def run(
    path: Path, solve: bool = False, timeout: int = 120, after: str = ""
) -> nbformat.NotebookNode:
    """Run the notebook in its folder from the recordings; raises where a cell does or where one
    writes to stderr.

    ``after`` is the source of one more cell, run at the end: what a test wants to know of the
    kernel.
    """
    import nbclient

    book = solved(read(path)) if solve else read(path)
    if after:
        book.cells.append(nbformat.v4.new_code_cell(after, id="after"))
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "TRTLEARN_MODE": "recorded", "TRTLEARN_HOME": home}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        where = {"metadata": {"path": str(path.parent)}}
        client = nbclient.NotebookClient(
            book, timeout=timeout, kernel_name="python3", resources=where
        )
        client.execute(env=env, stderr=subprocess.DEVNULL)
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise RuntimeError(
                    f"{path.name}, cell {cell.id} wrote to stderr: {output.text[:500]}"
                )
    return book


def main() -> int:
    """The command line that the module's text describes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("build", "text", "format", "check", "run"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument(
        "--solved",
        action="store_true",
        help="with every exercise solved, and every wrong answer tried",
    )
    given = parser.parse_args()
    bad = 0
    if given.verb == "build":
        source, target = given.files
        target.write_text(canonical(build(source.read_text(encoding="utf-8"))), encoding="utf-8")
        given.verb, given.files = "check", [target]
    for path in given.files:
        if given.verb == "text":
            sys.stdout.write(as_text(read(path)))
        elif given.verb == "format":
            path.write_text(canonical(read(path)), encoding="utf-8")
        elif given.verb == "check":
            found = problems(path)
            bad += len(found)
            print("\n".join(f"{path.name}: {line}" for line in found) or f"{path.name}: ok")
        else:
            start = time.monotonic()
            run(path, given.solved)
            print(f"{path.name}: ran in {time.monotonic() - start:.1f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
