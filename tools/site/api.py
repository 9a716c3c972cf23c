"""The API reference: every module's public names with their signatures and docstrings, as they
stand in the code.
"""

from __future__ import annotations

import ast
import dataclasses
import html
import importlib
import inspect
import itertools
import pkgutil
import re
import textwrap
from types import ModuleType
from typing import Any

import trtlearn
from tools.readme import ROOMS
from tools.site.markdown import Page, code, markdown, table

DOCTEST = re.compile(r"((?:^[ ]*>>> .*\n?)(?:^(?![ ]*$).+\n?)*)", re.M)


def modules() -> list[str]:
    """Every module with public names, by its dotted name inside the package: "calibration.cache"."""
    names = sorted(
        module.name.removeprefix("trtlearn.")
        for module in pkgutil.walk_packages(trtlearn.__path__, "trtlearn.")
        if not module.ispkg and not module.name.rpartition(".")[2].startswith("_")
    )
    return [name for name in names if getattr(load(name), "__all__", None)]


def load(name: str) -> ModuleType:
    """The module of that dotted name."""
    return importlib.import_module(f"trtlearn.{name}")


def prose(text: str | None) -> str:
    """A docstring as HTML: Markdown, with its examples as code."""
    if not text:
        return ""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", inspect.cleandoc(text)).replace("``", "`")
    parts = []
    for index, piece in enumerate(DOCTEST.split(text + "\n")):
        if index % 2:
            parts.append(code(textwrap.dedent(piece), "pycon"))
        elif piece.strip():
            parts.append(markdown(re.sub(r"</?(?=\w)", "&lt;", piece)))
    return "".join(parts)


def constants(module: ModuleType) -> dict[str, str]:
    """Module-level names with the docstring that follows their assignment."""
    found, nodes = {}, ast.parse(inspect.getsource(module)).body
    for node, after in itertools.pairwise(nodes):
        if (
            isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            targets = (
                node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            )
            found |= {one.id: after.value.value for one in targets if isinstance(one, ast.Name)}
    return found


def signature(thing: Any) -> str:
    """The signature as text, annotations as written; "" where there is none."""
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return ""
    return re.sub(r"<(?:function|class|object) ?'?([\w.]*)[^>]*>", r"\1", text).replace("'", "")


def described(name: str, thing: Any, words: dict[str, str], where: str) -> str:
    """One public name: an entry of the page's list."""
    source = getattr(thing, "__module__", where)
    borrowed = source.startswith("trtlearn.") and source != where
    origin = ""
    if borrowed:
        origin = f' <span class="hint">from <a href="{source.removeprefix("trtlearn.")}.html#{name}">{source}</a></span>'
    head = f"class {name}" if inspect.isclass(thing) else name
    documented = callable(thing) and source.startswith("trtlearn")
    inside = prose(inspect.getdoc(thing) if documented else words.get(name))
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing):
            fields = [
                [f"<code>{one.name}</code>", f"<code>{html.escape(str(one.type))}</code>"]
                for one in dataclasses.fields(thing)
            ]
            inside += table(["field", "type"], fields)
        elif not issubclass(thing, BaseException):
            head += signature(thing)
        for method, body in vars(thing).items():
            if not method.startswith("_") and inspect.isfunction(
                inspect.unwrap(getattr(body, "__func__", body))
            ):
                head_ = html.escape(f".{method}{signature(getattr(thing, method))}")
                inside += (
                    f"<p><code>{head_}</code></p>{prose(inspect.getdoc(getattr(thing, method)))}"
                )
    elif callable(thing):
        head += signature(thing)
    elif isinstance(thing, (str, int, float, tuple)) and len(repr(thing)) <= 200:
        head += f" = {thing!r}"
    link = f'<a class="anchor" aria-label="link to {name}" href="#{name}">#</a>'
    return f'<dt id="{name}"><code>{html.escape(head)}</code>{link}{origin}</dt>\n<dd>{inside}</dd>'


def page(name: str) -> Page:
    """The page of one module."""
    module = load(name)
    words = constants(module)
    entries = [
        described(one, getattr(module, one), words, module.__name__) for one in module.__all__
    ]
    body = (
        f'<h1>trtlearn.{name}</h1>\n{prose(module.__doc__)}\n<dl class="api">\n'
        + "\n".join(entries)
        + "\n</dl>"
    )
    return Page(f"api/{name}.html", f"trtlearn.{name}", body)


def groups() -> dict[str, list[str]]:
    """Heading -> modules: a heading for each room, with its job."""
    headings: dict[str, list[str]] = {"The base": [n for n in modules() if "." not in n]}
    for room in ROOMS:
        job = " ".join((load(room).__doc__ or "").split("\n\n")[0].split())
        headings[f"{room}: {job}"] = [n for n in modules() if n.startswith(f"{room}.")]
    return headings


def index() -> Page:
    """The list of all modules, grouped by room."""
    body = ["<h1>API reference</h1>"]
    body.append(
        "<p>Made from the docstrings. Each name listed here is public; "
        "anything else may change without notice.</p>"
    )
    for head, names in groups().items():
        rows = []
        for name in names:
            doc = " ".join((load(name).__doc__ or "").strip().split("\n\n")[0].split())
            link = f'<a href="{name}.html"><code>{name}</code></a>'
            rows.append([link, markdown(doc.replace("``", "`")).strip()])
        body.append(f"<h2>{html.escape(head)}</h2>" + table(["module", "what it is"], rows))
    return Page("api/index.html", "API reference", "\n".join(body), "Reference")
