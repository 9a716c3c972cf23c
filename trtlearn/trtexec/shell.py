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
VARIABLE = re.compile(
    r"\$env:\w+|\$\(\(?[^()]*\)\)?|\$\{(\w+)(?::?[-=]([^}]*))?[^}]*\}|\$(\w+|[@*#?<^])|`[^`\n]*`|"
    + PLACEHOLDER
)
WINDOWS_VARIABLE = re.compile(
    r"\$env:\w+|\$\{(\w+)()\}|\$(\w+)|%%~?\w+|%(\w+)%|!(\w+)!|" + PLACEHOLDER
)
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
    words: list[Word] = []
    word: Word | None = None
    depth, at = 0, 0
    escapes = "\\" if not windows else "^`"
    variable = WINDOWS_VARIABLE if windows else VARIABLE
    while at < len(text):
        char, quote = text[at], ""
        if char in escapes or (char == "\\" and re.match(r"\\[ \t]*\n", text[at:])):
            space = re.match(r"[ \t]*\n" if windows else r"\n", text[at + 1 :])
            at += 1 + (space.end() if space else 0)
            if not space and (windows is False or text[at - 1] == "^" or "`" not in text[at:]):
                word = word or Word("")
                word.text += text[at : at + 1]
                at += 1
            continue
        if char in "'\"":
            quote, at = char, at + 1
            word = word or Word("")
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
        if match := variable.match(text, at):
            word = word or Word("")
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
            words.append(Word(symbol, True))
            at += len(symbol)
            continue
        if char in " \t\r":
            words += [word] if word else []
            word, at = None, at + 1
            continue
        word = word or Word("")
        at = _copy(word, text, at)
    return words + ([word] if word else [])


def _copy(word: Word, text: str, at: int) -> int:
    word.text += text[at]
    return at + 1


def _take(word: Word, match: re.Match[str], at: int) -> int:
    """Add a variable to ``word``: its default where it has one, else its name."""
    default = match[2] if match.re is VARIABLE else None
    if default:
        word.text += default
    else:
        word.text += match[0]
        word.variables.append(match[0])
    return match.end()
