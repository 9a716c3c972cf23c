"""Names that files, tensors and layers may have, and that nothing may obey."""

from __future__ import annotations

FILES = (
    *('"""', "\\x", "\\u12", "\\N{x}", "a\nb", "$(touch ran)", "`touch ran`", "a'b", 'a"b', "-rf"),
    *("--", "$HOME", "${x}", "a b", "*", "~", "!!", "#x", "\x1b[31m", "\u202egnp", "\udcff\udc80"),
    *(";touch ran", "|touch ran", "%TEMP%", "\t", "=x", "\x7f\x85", "é\u200b", "🙂", "{x}", "%{y}"),
    *("'\x01'$(touch ran)", "<b>x<b>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "[red]x[bold]"),
    *('"""\nimport os; os.mkdir("ran")\n"""', "\\", "\\'\\'\\'", "ü" * 60, "CON", ".", " "),
)
"""As parts of a file's name: no slash, no NUL."""

TENSORS = (
    *(name for name in FILES if "\n" not in name and not any("\ud800" <= c <= "\udfff" for c in name)),
    *("<a href='javascript:alert(1)'>x</a>", "</script><script>alert(1)</script>", "a/b:0", "::"),
    *("../../x", "x: 3f000000", "</td></table>", "<extra></extra>"),
)  # fmt: skip
"""As names of tensors, nodes and layers, which a model and a cache can hold."""
