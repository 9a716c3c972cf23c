"""A shell's command line, split as the shell would split it: nothing is expanded and nothing is run."""

from __future__ import annotations

import re
import shlex

from .errors import CommandError

__all__ = ["split_command"]

LONGEST = 100_000  # characters: far above what a shell takes


def split_command(command: str) -> tuple[str, ...]:
    """The arguments of the first trtexec in a shell command line; CommandError where there is none.

    Quotes, backslashes at line ends, environment settings before it and pipes or redirections after it are
    understood as a POSIX shell would; nothing is expanded.

    >>> split_command("CUDA_VISIBLE_DEVICES=0 ./trtexec --onnx='my model.onnx' --int8 2>&1 | tee log")
    ('--onnx=my model.onnx', '--int8')
    """
    if not isinstance(command, str):
        raise CommandError(f"the command is {type(command).__name__}, expected text", 'give it as "trtexec --onnx=..."')
    if len(command) > LONGEST or "\0" in command:
        raise CommandError("the command is too long or holds a NUL character", "give one trtexec command line")
    lexer = shlex.shlex(command.replace("\\\r\n", " ").replace("\\\n", " "), posix=True, punctuation_chars="|&;<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        tokens = list(lexer)
    except ValueError as problem:
        raise CommandError(f"the command line does not split: {problem}", "close every quote") from None
    start = next((i for i, token in enumerate(tokens) if re.search(r"(?:^|[/\\])trtexec(?:\.exe)?$", token)), None)
    if start is None:
        if not tokens or not all(token.startswith("-") for token in tokens):
            raise CommandError(
                f"no trtexec in {command.strip()[:80]!r}", 'write it as "trtexec --onnx=model.onnx --int8"'
            )
        start = -1
    arguments: list[str] = []
    rest = iter(tokens[start + 1 :])
    for token in rest:
        if token and not set(token) - set("|&;\n"):
            if arguments or set(token) != {"\n"}:
                break
        elif token and not set(token) - set("|&<>"):
            if arguments and arguments[-1] in ("0", "1", "2"):
                arguments.pop()  # the descriptor of 2>&1
            next(rest, None)
        else:
            arguments.append(token)
    return tuple(arguments)
