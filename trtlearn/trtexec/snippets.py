"""The trtexec command inside a snippet that people paste: a shell line, a nested ``bash -c``, a
notebook's ``!`` line, a Python call, YAML, or the first line of trtexec's own log.

Nothing is run. Variables that the text itself sets are filled in; others keep their name, and a
note says that their value is unknown.
"""

from __future__ import annotations

import ast
import contextlib
import html
import re
import shlex
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import CommandError
from ..files import load_table
from .sources import read_spelling

__all__ = ["DASHES", "read_command_line"]

LONGEST = 100_000  # characters: far above what a shell takes
DEEPEST = 4  # bash -c inside ssh inside docker inside make
DASHES = "-‐‑‒–—―−－"
PROGRAM = re.compile(r"(?:^|[/\\])trtexec(?:\.exe)?$", re.I)
IMAGE = re.compile(
    r"\b(?:nvcr\.io/nvidia/(?:tensorrt|pytorch|tensorflow|tritonserver|deepstream|l4t-\w+)"
    r"|dustynv/tensorrt):[\w.-]+"
)
BANNER = re.compile(
    r"TensorRT\.trtexec(?: \[TensorRT v(\d+)\])?(?: \[[^\]\n]*\])*[ \t]*#[ \t]*(\S.*)"
)
PROMPT = re.compile(
    r"^[ \t]*(?:(?:PS )?[A-Za-z]:\\[^>\n]*>|PS>|>>>|>(?= )|[❯➜](?: +~\S*)?)[ \t]*", re.M
)
FENCE = re.compile(r"^[ \t]*(?:```.*|%%\w+.*|(?:@?rem\b|::).*)$", re.M | re.I)
STARTS = re.compile(
    r"^([ \t]*)(?:[@-]+(?=trtexec|\"?\$)|(?:\w+ = )?!+|%s(?:ystem|[xc])\b|RUN\b)[ \t]*", re.M
)
"""What stands before a command in a recipe of make, a notebook and a Dockerfile."""
YAML_LIST = re.compile(
    r"^[ \t]*(?:- +|command: *\[?[\"']?)(\S*?trtexec)[\"']?\]?[ \t]*\n(?:[ \t]*args:[ \t]*\n)?"
    r"((?:[ \t]*- .*\n?)+)",
    re.M,
)
ARRAY = re.compile(r"^([ \t]*\w+\+?)=\(((?:[^()'\"]|\"[^\"]*\"|'[^']*')*)\)", re.M)
ENTITY = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|(&(?:amp|lt|gt|quot|#39);)")  # not one inside quotes
IN_PROGRAM = re.compile(r"trtexec|--(?:onnx|loadEngine)\b", re.I)
SOURCES = re.compile(r"(?:onnx|loadEngine|uff|model|deploy)\b")
IN_TEXT = re.compile(r"trtexec(?:\.exe)?[\"']?\s+[-{%$]", re.I)
"""A command inside a string of a program."""
DECLARED = re.compile(r"^[ \t]*(?:(?:const|auto|let|var|std::string|String|string)\s+)+", re.M)
NO_VERSION = "the log names no version, so it is of TensorRT 7.x or before (8.0.1:logging.h:314)"


class CommandLine(NamedTuple):
    """The first trtexec command of a text."""

    arguments: tuple[str, ...]
    version: str | None = None  # of the log or the container that the command stands in
    notes: tuple[str, ...] = ()  # what the text leaves open
    unknown_values: frozenset[str] = frozenset()  # arguments whose value has an unknown variable


def read_command_line(command: str | Sequence[str]) -> CommandLine:
    """The first trtexec command in ``command``, and what else the text says.

    >>> read_command_line("X=0 ./trtexec --onnx='my model.onnx' --int8 | tee log").arguments
    ('--onnx=my model.onnx', '--int8')
    >>> read_command_line('bash -c "trtexec --int8 $EXTRA" # fast').notes
    ('the value of $EXTRA is unknown: explained as if it were empty',)

    CommandError where the text holds no trtexec command, or does not split.
    """
    if isinstance(command, (list, tuple)) and all(isinstance(word, str) for word in command):
        command = shlex.join(command)
    if not isinstance(command, str):
        problem = f"the command is {type(command).__name__}, expected text"
        raise CommandError(problem, 'give it as "trtexec --onnx=..."')
    if len(command) > LONGEST or "\0" in command:
        problem = "the command is too long or holds a NUL character"
        raise CommandError(problem, "give one trtexec command line")
    if banner := BANNER.search(command):
        words = banner[2].split()  # the log prints the words without their quotes
        at = next((at for at, word in enumerate(words) if PROGRAM.search(word)), 0)
        return CommandLine(tuple(words[at + 1 :]), banner[1], () if banner[1] else (NO_VERSION,))
    commands = _commands(command, DEEPEST)
    if not commands:
        fix = 'write it as "trtexec --onnx=model.onnx --int8"'
        others = load_table("parser")["programs"].items()
        advice = (advice for name, advice in others if re.search(rf"\b{name}\b", command))
        raise CommandError(f"no trtexec in {command.strip()[:80]!r}", next(advice, fix))
    best = max(map(_rank, commands))
    image = IMAGE.search(command)
    named = image[0] if image and read_spelling(image[0]) else None
    return _command_line([words for words in commands if _rank(words) == best], named)


def _rank(words: list[Word]) -> int:
    """How much of a command this is: 2 with a model, 1 with an option, 0 as `which trtexec`."""
    options = [word.text.lstrip(DASHES) for word in words if _is_option(word)]
    return 2 if any(map(SOURCES.match, options)) else 1 if options else 0


def _is_option(word: Word) -> bool:
    return not word.operator and word.text[:1] in DASHES and word.text[1:2] != ""


def _command_line(commands: list[list[Word]], version: str | None) -> CommandLine:
    first, *others = commands
    notes, arguments, unknown = [], [], set()
    for word in first:
        if word.operator:
            notes.append(
                f"the shell does not give `{word.text}` to trtexec: it is on a line of its own. "
                "The line before must end with a backslash, no space behind it, and be no comment"
            )
            continue
        names = ", ".join(dict.fromkeys(word.variables))
        _, equals, value = word.text.partition("=")
        if names and not (equals and any(name in value for name in word.variables)):
            notes.append(f"the value of {names} is unknown: explained as if it were empty")
            continue
        if names:
            unknown.add(word.text)
            notes.append(f"the value of {names} in {word.text} is unknown")
        arguments.append(word.text)
    if others:
        texts = (" ".join(["trtexec", *(word.text for word in words)]) for words in others)
        listed = "; ".join(f"`{text}`" for text in texts)
        notes.append(
            f"the text holds {len(commands)} trtexec commands: this is the first of them, "
            f"`{' '.join(['trtexec', *arguments])}`. Explain the others one by one: {listed}"
        )
    return CommandLine(tuple(arguments), version, tuple(notes), frozenset(unknown))


def _commands(text: str, depth: int) -> list[list[Word]]:
    """The words after the program, for each trtexec command in ``text``."""
    if found := _in_program(text, depth):
        return found
    plain = PROMPT.sub("", FENCE.sub("", text.replace("\r\n", "\n")))
    plain = ENTITY.sub(lambda match: html.unescape(match[1]) if match[1] else match[0], plain)
    if plain.strip().startswith("`") and plain.strip().endswith("`"):
        plain = plain.strip().strip("`")
    plain = YAML_LIST.sub(lambda m: f"{m[1]} " + re.sub(r"(?m)^\s*- +|\n", " ", m[2]), plain)
    plain = ARRAY.sub(lambda m: f'{m[1]}="{" ".join(re.sub(chr(34), "", m[2]).split())}"', plain)
    found = _search(STARTS.sub(r"\1", plain), depth)
    if not found and depth and re.search(r"^\s*#", plain, re.M):  # a root prompt, or a comment
        found = _commands(re.sub(r"^\s*#+", "", plain, flags=re.M), depth - 1)
    return found


def _search(text: str, depth: int) -> list[list[Word]]:
    simple = list(simple_commands(text))
    direct: list[list[Word]] = []
    for command in simple:
        at = _program(command)
        if at is not None:
            direct.append(command[at + 1 :])
        elif direct and command[0].text.startswith("--"):
            stray = direct[-1].pop().text + " " if direct[-1] and direct[-1][-1].operator else ""
            stray += " ".join(word.text for word in command)
            direct[-1].append(Word(stray, operator=True))
    if any(map(_rank, direct)):
        return direct
    found = _in_fragments(text, depth)
    for command in simple if depth and not found else ():
        for word in command:
            inner = next((name for name in word.variables if IN_TEXT.search(name)), word.text)
            if inner != text and (IN_TEXT.search(inner) or re.search(r"\strtexec", inner, re.I)):
                found += _commands(inner.strip("$()`"), depth - 1)
    if any(map(_rank, found)):
        return found
    for command in simple:  # a variable that holds the program
        at = next((i for i, word in enumerate(command) if word.variables), None)
        if at is not None and not command[at].text.startswith(tuple(DASHES)):
            named = "trtexec" in command[at].text.lower()
            if named or (at == 0 and any(word.text.startswith("--") for word in command[1:])):
                found.append(command[at + 1 :])
    bare = len(simple) == 1 and all(word.text.startswith(tuple(DASHES)) for word in simple[0])
    return found or direct or (simple if bare else [])


def _in_fragments(text: str, depth: int) -> list[list[Word]]:
    """The commands of the first lines of ``text`` that are a program by themselves."""
    lines = DECLARED.sub("", text).split("\n")
    for start, line in enumerate(lines if depth else ()):
        near = "\n".join(lines[start : start + 4])
        if re.search(r"[\[(=]", line) and re.search(r"['\"]", near) and IN_PROGRAM.search(near):
            for end in range(start + 1, min(start + 60, len(lines)) + 1):
                found = _in_program("\n".join(lines[start:end]), depth, "trtexec" in text.lower())
                if any(map(_rank, found)):
                    return found
    return []


def _in_program(text: str, depth: int, named: bool = False) -> list[list[Word]]:
    """The commands in ``text`` where it is Python, or reads like it (JSON, a call in C, YAML)."""
    if not depth or not re.search(r"['\"]", text) or not IN_PROGRAM.search(text):
        return []
    code = textwrap.dedent(text).strip()
    for part in (code, f"{{{code}}}"):  # a piece of JSON without its braces
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of "\T" in a path
                tree = ast.parse(part)
            found = list(_of_nodes(tree, depth, named or "trtexec" in text.lower()))
            return [[*words, *_added(tree)] for words in found]
    return []


def _added(tree: ast.AST) -> Iterator[Word]:
    """What a program adds to a list of options: that is not known where the list is written."""
    for node in ast.walk(tree):
        match node:
            case ast.AugAssign() | ast.Call(func=ast.Attribute(attr="append" | "extend")):
                text = ast.unparse(node)
                if re.search(r"['\"]--\w", text):
                    yield Word(text, variables=[text])


def _of_nodes(node: ast.AST, depth: int, named: bool) -> Iterator[list[Word]]:
    """The commands in a syntax tree: lists of words, and strings."""
    if isinstance(node, (ast.List, ast.Tuple)):
        words = [_string(item) for item in node.elts]
        program = bool(words) and (PROGRAM.search(words[0].text) or words[0].variables)
        if program and (PROGRAM.search(words[0].text) or _rank(words[1:]) == 2):
            yield words[1:]
            return
        if named and _rank(words) == 2 and _is_option(words[0]):  # the program stands elsewhere
            yield words
            return
    elif isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp, ast.Call)):
        text = _string(node).text
        if IN_TEXT.search(text):
            yield from _commands(text, depth - 1)
            return
    for child in ast.iter_child_nodes(node):
        yield from _of_nodes(child, depth, named)


def _string(node: ast.AST) -> Word:
    """A string of a program; what it computes becomes a variable in braces."""
    match node:
        case ast.Constant(value=str(text)):
            return Word(text)
        case ast.JoinedStr(values=parts):
            return _joined(*parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined(left, right)
        case (
            ast.BinOp(left=inner, op=ast.Mod())
            | ast.Call(func=ast.Attribute(value=inner, attr="format"))
            | ast.FormattedValue(value=inner)
        ):
            return _string(inner)
    name = "{" + ast.unparse(node) + "}"
    name = name if re.fullmatch(PLACEHOLDER, name) else "{...}"
    return Word(name, variables=[name])


def _joined(*nodes: ast.AST) -> Word:
    words = [_string(node) for node in nodes]
    names = [name for word in words for name in word.variables]
    return Word("".join(word.text for word in words), variables=names)


def _program(words: list[Word]) -> int | None:
    """The place of trtexec among the words of one command; of the image where docker starts it."""
    for at in reversed(range(len(words))):
        text = words[at].text
        if not PROGRAM.search(text):
            continue
        if text.startswith("--entrypoint=") or (at and words[at - 1].text == "--entrypoint"):
            return max(i for i, word in enumerate(words) if not word.text.startswith("-"))
        if not text.startswith(tuple(DASHES)):
            return at
    return None


# The words and simple commands of a shell line, POSIX or Windows


WINDOWS = re.compile(
    r"(?:\^|(?<=\s)`)[ \t]*\r?\n|(?:^|[\s=\"'&(:,])(?:[A-Za-z]:\\|\.{1,2}\\|\\\\\w)|\w\\trtexec"
    r"|%\w+%|\$env:|%%~?\w|trtexec\.exe",
    re.I,
)
PLACEHOLDER = r"(?<=[=:])<[^<>|&;\n]+>|(?<==)(?:\.\.\.|…)(?=\s|$)|\{[\w.\[\]'\"()]*\}|%[sd]\b"
"""What a page or a program leaves to be filled in: <file>, ..., {name}, %s."""
VARIABLE = (
    r"\$env:\w+|\$\(\(?[^()]*\)\)?|\$\{\w+(?::?[-=](?P<default>[^}]*))?[^}]*\}|\$(?:\w+|[@*#?<^])"
    r"|`[^`\n]*`|" + PLACEHOLDER
)
WINDOWS_VARIABLE = r"\$env:\w+|\$\{\w+\}|\$\w+|%%~?\w+|%\w+%|!\w+!|" + PLACEHOLDER
OUTSIDE = (
    r"|'(?P<single>[^']*)'|(?P<open>\")|(?P<unclosed>')|(?P<variable>VARIABLE)|(?P<comment>#[^\n]*)"
    r"|(?P<operator>[|&;<>\n]+)|(?P<bracket>[(){}])|(?P<space>[ \t\r]+)|(?P<plain>.)"
)
INSIDE = r"|(?P<joined>\\\n)|(?P<close>\")|(?P<variable>VARIABLE)|(?P<plain>.)"


def _scanner(start: str, others: str, variable: str) -> re.Pattern[str]:
    """What the next piece of a line is, ``start`` before all others."""
    return re.compile(start + others.replace("VARIABLE", variable), re.S)


POSIX_PIECES = (
    _scanner(r"(?P<joined>\\\n)|\\(?P<escaped>.?)", OUTSIDE, VARIABLE),
    _scanner(r"\\(?P<escaped>[\"\\$])", INSIDE, VARIABLE),
)
WINDOWS_PIECES = (  # a ` alone escapes; of two, neither does
    _scanner(
        r"(?P<joined>[\\^`][ \t]*\n)|(?:\^|`(?![^`]*`))(?P<escaped>.?)|(?P<skipped>`)",
        OUTSIDE,
        WINDOWS_VARIABLE,
    ),
    _scanner(r"\\(?P<escaped>\")", INSIDE, WINDOWS_VARIABLE),
)
"""The pieces of a line outside double quotes and inside them."""
STARTERS = ("then", "do", "else")
ENDS = ("fi", "esac", "done")


@dataclass
class Word:
    """One word of a shell line, or an operator; the variables in it that have no value."""

    text: str
    operator: bool = False
    variables: list[str] = field(default_factory=list)


def simple_commands(text: str) -> Iterator[list[Word]]:
    """The commands of a text without its pipes, lists and redirections.

    CommandError where a quote is not closed.

    >>> [[word.text for word in command] for command in simple_commands("N=8; run -n $N $X > log")]
    [['N=8'], ['run', '-n', '8', '$X']]
    """
    command: list[Word] = []
    rest = _expand(_words(text, bool(WINDOWS.search(text))))
    for word in rest:
        if word.operator and word.text.strip("&<>") == "" and set(word.text) & set("<>"):
            if command and command[-1].text in ("0", "1", "2"):
                command.pop()  # the descriptor of 2>&1
            next(rest, None)
        elif word.operator or word.text in (";", ":::"):  # the ends in find -exec, GNU parallel
            if command:
                yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command


def _expand(words: list[Word]) -> Iterator[Word]:
    """``words`` with the variables that earlier commands of the text set, but for those that it
    sets under a condition.
    """
    values: dict[str, Word] = {}
    assigns = True  # no command word yet
    nesting = 0
    for word in words:
        if word.operator:
            assigns = True
            yield word
            continue
        nesting += assigns * ((word.text in ("if", "case", "for", "while")) - (word.text in ENDS))
        known = [name for name in word.variables if _key(name) in values]
        text, left = word.text, [name for name in word.variables if name not in known]
        for name in known:
            text = text.replace(name, values[_key(name)].text)
            left += values[_key(name)].variables
        pieces = text.split() if known and "=" not in word.text else [text]
        match = re.fullmatch(r"([A-Za-z_]\w*)(\+?)=(.*)", text, re.S)
        if assigns and match:
            old = values.pop(match[1], Word("")) if match[2] else Word("")
            values[match[1]] = Word(f"{old.text} {match[3]}".strip(), False, old.variables + left)
            if nesting > 0:
                del values[match[1]]
        assigns = assigns and bool(match or text in ("export", "set", "local", "env", *STARTERS))
        for piece in pieces:
            yield Word(piece, False, [name for name in left if name in piece])


def _key(name: str) -> str:
    """The name of a variable without its marks: TRT of $TRT, ${TRT} and %TRT%."""
    return re.sub(r"\[[@*]\]$", "", name.strip("${}%!"))


def _words(text: str, windows: bool) -> list[Word]:
    """The words and operators of a shell line; CommandError where a quote is not closed."""
    outside, inside = WINDOWS_PIECES if windows else POSIX_PIECES
    words: list[Word] = []
    word: Word | None = None
    depth = at = 0
    quoted = False
    while at < len(text):
        match = (inside if quoted else outside).match(text, at)
        assert match  # one piece is any character
        kind = match.lastgroup or "plain"
        piece, at = match[kind], match.end()
        behind = text[at : at + 1]
        opens = piece in ("(", "{") and word is None and (piece == "(" or behind in " \n")
        closes = depth and piece in (")", "}") and (piece == ")" or word is None)
        if kind in ("joined", "skipped"):
            continue
        if kind == "operator" or (kind == "bracket" and (opens or closes)):
            words += [word] if word else []
            words.append(Word(piece, operator=True))
            word, depth = None, depth + int(opens) - int(bool(closes))
        elif kind == "space" or (kind == "comment" and word is None):
            words += [word] if word else []
            word = None
        elif kind in ("open", "close", "unclosed"):
            quoted, word = kind != "close", word or Word("")
            at = len(text) if kind == "unclosed" else at
        elif kind == "variable":
            word = word or Word("")
            default = match.groupdict().get("default")  # else its name
            word.text += default or piece
            word.variables += [] if default else [piece]
        else:
            word = word or Word("")
            word.text += piece[:1] if kind == "comment" else piece
            at = match.start() + 1 if kind == "comment" else at
    if quoted:
        problem = "the command line does not split: No closing quotation"
        raise CommandError(problem, "close every quote")
    return words + ([word] if word else [])
