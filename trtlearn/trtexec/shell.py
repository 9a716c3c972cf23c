"""A shell line's words and simple commands, POSIX or Windows, with the variables it sets filled in.

Nothing is run. Other variables keep their name: a word lists those that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import CommandError

__all__ = ["PLACEHOLDER", "Word", "simple_commands"]

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
