"""The trtexec command inside a text that people paste: a POSIX or Windows shell line, a nested
``bash -c``, a notebook's ``!`` line, a Python call, or the first line of trtexec's own log.

Nothing is run. Variables that the text itself sets are filled in; others keep their name, and a
note says that their value is unknown.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import CommandError

__all__ = ["CommandLine", "read_command_line", "split_command"]

LONGEST = 100_000  # characters: far above what a shell takes
DEEPEST = 4  # bash -c inside ssh inside docker inside make
DASHES = "-‐‑‒–—―−－"
PROGRAM = re.compile(r"(?:^|[/\\])trtexec(?:\.exe)?$", re.I)
IMAGE = re.compile(
    r"\bnvcr\.io/nvidia/(?:tensorrt|pytorch|tensorflow|tritonserver):(\d\d\.\d\d\S*)"
)
BANNER = re.compile(r"\[TensorRT v(\d+)\](?: \[b\d+\])?[ \t]*#[ \t]*(\S.*)")
PROMPT = re.compile(r"^[ \t]*(?:(?:PS )?[A-Za-z]:\\[^>\n]*>|PS>|>>>|>(?= ))[ \t]*", re.M)
FENCE = re.compile(r"^[ \t]*(?:```.*|%%\w+.*)$", re.M)
WINDOWS = re.compile(
    r"[\^`][ \t]*\r?\n|(?:^|[\s=\"'&(:,])(?:[A-Za-z]:\\|\.{1,2}\\|\\\\\w)|\w\\trtexec|%\w+%|\$env:"
    r"|trtexec\.exe",
    re.I,
)
PYTHON_LIST = re.compile(r"\[\s*[fr]?([\"'])[^\"']*trtexec(?:\.exe)?\1\s*,.*?\]", re.S)
PYTHON_CALL = re.compile(r"[\w.]+\(\s*[fr]?([\"'])((?:(?!\1).)*trtexec\s(?:(?!\1).)*)\1", re.S)
VARIABLE = re.compile(
    r"\$env:\w+|\$\(\(?[^()]*\)\)?|\$\{(\w+)(?::?[-=]([^}]*))?[^}]*\}|\$(\w+|[@*#?])|`[^`\n]*`"
)
WINDOWS_VARIABLE = re.compile(r"\$env:\w+|\$\{(\w+)()\}|\$(\w+)|%(\w+)%|!(\w+)!")
PYTHON_VARIABLE = re.compile(r"\{[\w.\[\]'\"]+\}")


class CommandLine(NamedTuple):
    """The first trtexec command of a text."""

    arguments: tuple[str, ...]
    version: str | None = None  # of the log or the container that the command stands in
    notes: tuple[str, ...] = ()  # what the text leaves open
    unknown_values: frozenset[str] = (
        frozenset()
    )  # arguments with an unknown variable in their value


@dataclass
class _Word:
    """One word of a shell line, or an operator; the variables in it that have no value."""

    text: str
    operator: bool = False
    variables: list[str] = field(default_factory=list)


def split_command(command: str) -> tuple[str, ...]:
    """The arguments of the first trtexec in a command line; CommandError where there is none.

    >>> split_command("CUDA_VISIBLE_DEVICES=0 ./trtexec --onnx='my model.onnx' --int8 | tee log")
    ('--onnx=my model.onnx', '--int8')
    >>> split_command(r".\\trtexec.exe --onnx=C:\\a\\m.onnx --int8")
    ('--onnx=C:\\\\a\\\\m.onnx', '--int8')
    """
    return read_command_line(command).arguments


def read_command_line(command: str | Sequence[str]) -> CommandLine:
    """The first trtexec command in ``command``, and what else the text says.

    >>> read_command_line('bash -c "trtexec --int8 $EXTRA" # fast').notes
    ('the value of $EXTRA is unknown: explained as if it were empty',)

    CommandError where the text holds no trtexec command, or does not split.
    """
    if isinstance(command, (list, tuple)) and all(isinstance(word, str) for word in command):
        command = shlex.join(command)
    if not isinstance(command, str):
        raise CommandError(
            f"the command is {type(command).__name__}, expected text",
            'give it as "trtexec --onnx=..."',
        )
    if len(command) > LONGEST or "\0" in command:
        raise CommandError(
            "the command is too long or holds a NUL character", "give one trtexec command line"
        )
    if banner := BANNER.search(command):
        words = banner[2].split()  # the log prints the words without their quotes
        return CommandLine(tuple(words[1:]), banner[1])
    commands = _commands(command, DEEPEST)
    if not commands:
        raise CommandError(
            f"no trtexec in {command.strip()[:80]!r}",
            'write it as "trtexec --onnx=model.onnx --int8"',
        )
    with_options = [words for words in commands if words] or commands
    image = IMAGE.search(command)
    return _command_line(with_options, image and image[1])


def _command_line(commands: list[list[_Word]], version: str | None) -> CommandLine:
    first, *others = commands
    notes, arguments, unknown = [], [], set()
    for word in first:
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


def _commands(text: str, depth: int) -> list[list[_Word]]:
    """The words after the program, for each trtexec command in ``text``."""
    if match := PYTHON_LIST.search(text):
        quoted = re.findall(r"[fr]?([\"'])(.*?)\1", match[0], re.S)
        return [[_Word(string, False, PYTHON_VARIABLE.findall(string)) for _, string in quoted[1:]]]
    if match := PYTHON_CALL.search(text):
        return _commands(match[2], depth - 1) if depth else []
    plain = PROMPT.sub("", FENCE.sub("", text.replace("\r\n", "\n")))
    if plain.strip().startswith("`") and plain.strip().endswith("`"):
        plain = plain.strip().strip("`")
    notebook = bool(re.match(r"\s*!", plain))
    plain = re.sub(r"^([ \t]*)(?:!+|%s[xc]\b|RUN\b)[ \t]*", r"\1", plain, flags=re.M)
    found = _search(plain, depth, notebook)
    if not found and re.match(r"\s*#+\s*\S", plain):  # a root prompt, or a line commented out
        found = _search(re.sub(r"^\s*#+", "", plain), depth, notebook)
    return found


def _search(text: str, depth: int, notebook: bool) -> list[list[_Word]]:
    words = list(_expand(_words(text, bool(WINDOWS.search(text)), notebook)))
    simple = list(_simple_commands(words))
    found = [words[at + 1 :] for words in simple if (at := _program(words)) is not None]
    if found:
        return found
    for words in simple if depth else ():
        for word in words:
            if re.search(r"\strtexec|trtexec(?:\.exe)?[\"']?\s", word.text, re.I):
                found += _commands(word.text, depth - 1)
    if found:
        return found
    for words in simple:  # a variable that holds the program
        at = next((i for i, word in enumerate(words) if word.variables), None)
        if at is not None and not words[at].text.startswith(tuple(DASHES)):
            named = "trtexec" in words[at].text.lower()
            if named or (at == 0 and any(word.text.startswith("--") for word in words[1:])):
                found.append(words[at + 1 :])
    if not found and len(simple) == 1 and all(w.text.startswith(tuple(DASHES)) for w in simple[0]):
        found = simple
    return found


def _program(words: list[_Word]) -> int | None:
    """The place of trtexec among the words of one command."""
    for at, word in enumerate(words):
        if PROGRAM.search(word.text) and not word.text.startswith(tuple(DASHES)):
            return at
    return None


def _simple_commands(words: list[_Word]) -> Iterator[list[_Word]]:
    """The commands of a line without pipes, lists and redirections."""
    command: list[_Word] = []
    rest = iter(words)
    for word in rest:
        if word.operator and word.text.strip("&<>") == "" and set(word.text) & set("<>"):
            if command and command[-1].text in ("0", "1", "2"):
                command.pop()  # the descriptor of 2>&1
            next(rest, None)
        elif word.operator:
            if command:
                yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command


def _expand(words: list[_Word]) -> Iterator[_Word]:
    """``words`` with the variables that earlier commands of the text set."""
    values: dict[str, str] = {}
    assigns = True  # no command word yet
    for word in words:
        if word.operator:
            assigns = True
            yield word
            continue
        known = [name for name in word.variables if name.strip("${}%") in values]
        text = word.text
        for name in known:
            text = text.replace(name, values[name.strip("${}%")])
        left = [name for name in word.variables if name not in known]
        pieces = text.split() if known and "=" not in word.text else [text]
        match = re.fullmatch(r"([A-Za-z_]\w*)=(.*)", text, re.S)
        if assigns and match and not left:
            values[match[1]] = match[2]
        assigns = assigns and bool(match or text in ("export", "set", "local", "env"))
        for piece in pieces:
            yield _Word(piece, False, left)


def _words(text: str, windows: bool, notebook: bool) -> list[_Word]:
    """The words and operators of a shell line; CommandError where a quote is not closed."""
    words: list[_Word] = []
    word: _Word | None = None
    depth, at = 0, 0
    escapes = "\\" if not windows else "^`"
    variable = WINDOWS_VARIABLE if windows else VARIABLE
    while at < len(text):
        char, quote = text[at], ""
        if char in escapes or (char == "\\" and re.match(r"\\[ \t]*\n", text[at:])):
            space = re.match(r"[ \t]*\n" if windows else r"\n", text[at + 1 :])
            at += 1 + (space.end() if space else 0)
            if not space and (windows is False or text[at - 1] == "^" or "`" not in text[at:]):
                word = word or _Word("")
                word.text += text[at : at + 1]
                at += 1
            continue
        if char in "'\"":
            quote, at = char, at + 1
            word = word or _Word("")
            while at < len(text) and text[at] != quote:
                escaped = text[at + 1 : at + 2] if text[at] == "\\" and quote == '"' else ""
                if escaped and escaped in ('"' if windows else '"\\$'):
                    word.text += escaped
                    at += 2
                    continue
                if escaped == "\n":
                    at += 2
                    continue
                match = quote == '"' and variable.match(text, at)
                at = _take(word, match, at) if match else _copy(word, text, at)
            if at >= len(text):
                raise CommandError(
                    "the command line does not split: No closing quotation", "close every quote"
                )
            at += 1
            continue
        if match := variable.match(text, at) or (notebook and PYTHON_VARIABLE.match(text, at)):
            word = word or _Word("")
            at = _take(word, match, at)
            continue
        if char == "#" and word is None:
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
            continue
        opens = char in "({" and word is None and (char == "(" or text[at + 1 : at + 2] in " \n")
        closes = depth and char in ")}" and (char == ")" or word is None)
        if char in "|&;<>\n" or opens or closes:
            words += [word] if word else []
            word = None
            operator = re.compile(r"[|&;<>\n]+|.").match(text, at)
            symbol = operator[0] if operator else char
            depth += int(opens) - int(bool(closes))
            words.append(_Word(symbol, True))
            at += len(symbol)
            continue
        if char in " \t\r":
            words += [word] if word else []
            word, at = None, at + 1
            continue
        word = word or _Word("")
        at = _copy(word, text, at)
    return words + ([word] if word else [])


def _copy(word: _Word, text: str, at: int) -> int:
    word.text += text[at]
    return at + 1


def _take(word: _Word, match: re.Match[str], at: int) -> int:
    """Add a variable to ``word``: its default where it has one, else its name."""
    default = match[2] if match.re is VARIABLE else None
    if default:
        word.text += default
    else:
        word.text += match[0]
        word.variables.append(match[0])
    return match.end()
