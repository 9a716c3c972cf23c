"""Commands as people paste them: Windows, variables, comments, nesting, notebooks, web pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trtlearn.trtexec.command import parse_trtexec
from trtlearn.trtexec.explanation import explain
from trtlearn.trtexec.migration import migrate, modern_command
from trtlearn.trtexec.snippets import read_command_line
from trtlearn.trtexec.sources import layer_matches

INT8 = ("--onnx=m.onnx", "--int8")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (r".\trtexec.exe --onnx=C:\a\m.onnx --int8", (r"--onnx=C:\a\m.onnx", "--int8")),
        (
            r"C:\a\trtexec.exe --int8 --calib=C:\a\c.cache",
            ("--int8", r"--calib=C:\a\c.cache"),
        ),
        ("trtexec.exe --onnx=m.onnx ^\n  --int8 ^\r\n --fp16", (*INT8, "--fp16")),
        ("trtexec --onnx=m.onnx `\n  --int8 `\n --fp16", (*INT8, "--fp16")),
        (
            r'& "C:\Program Files\bin\trtexec.exe" --onnx="C:\my models\m.onnx" --int8',
            (r"--onnx=C:\my models\m.onnx", "--int8"),
        ),
        (r"C:\TensorRT\bin>trtexec.exe --onnx=m.onnx --int8", INT8),
        (r"PS C:\TRT> .\trtexec --onnx=m.onnx --int8", INT8),
        ('cmd /c "trtexec.exe --onnx=m.onnx --int8"', INT8),
        ("trtexec --onnx=m.onnx --int8 # comment --fp16", INT8),
        ("# trtexec --onnx=m.onnx --int8", INT8),
        ("root@host:/w# trtexec --onnx=m.onnx --int8", INT8),
        ("# build it\ntrtexec --onnx=m.onnx --int8", INT8),
        ('bash -c "trtexec --onnx=m.onnx --int8"', INT8),
        ("docker run --rm -it image bash -lc 'cd /w && trtexec --onnx=m.onnx --int8'", INT8),
        ("ssh jetson 'trtexec --onnx=m.onnx --int8'", INT8),
        ("(cd /x; trtexec --onnx=m.onnx --int8)", INT8),
        ("( trtexec --onnx=m.onnx --int8 )", INT8),
        ("{ trtexec --onnx=m.onnx --int8; }", INT8),
        ("!trtexec --onnx=m.onnx --int8", INT8),
        ("%%bash\ntrtexec --onnx=m.onnx --int8", INT8),
        ("```bash\ntrtexec --onnx=m.onnx --int8\n```", INT8),
        ("`trtexec --onnx=m.onnx --int8`", INT8),
        ('os.system("trtexec --onnx=m.onnx --int8")', INT8),
        ('subprocess.run(["trtexec", "--onnx=m.onnx", "--int8"])', INT8),
        ("RUN trtexec --onnx=m.onnx --int8", INT8),
        ("which trtexec && trtexec --onnx=m.onnx --int8", INT8),
        ("if true; then trtexec --onnx=m.onnx --int8; fi", INT8),
        ("${TRTEXEC} --onnx=m.onnx --int8", INT8),
        ("$TRT --onnx=m.onnx --int8", INT8),
        ("TRT=/bin/trtexec; $TRT --onnx=m.onnx --int8", INT8),
        ("M=m\ntrtexec --onnx=${M}.onnx --int8", INT8),
        ("trtexec --onnx=${M:-m.onnx} --int8", INT8),
        ("O='--int8 --fp16'; trtexec --onnx=m.onnx $O", (*INT8, "--fp16")),
        ("\t@trtexec --onnx=m.onnx --int8", INT8),
        ("command -v trtexec > /dev/null || exit 1\ntrtexec --onnx=m.onnx --int8", INT8),
        ("$x = Get-Command trtexec -ErrorAction Stop\n& trtexec --onnx=m.onnx --int8", INT8),
        ("REM trtexec builds the engine\ntrtexec.exe --onnx=m.onnx --int8", INT8),
        ("!trtexec --version\n!trtexec --onnx=m.onnx --int8", INT8),
        ("if FP16:\n    !trtexec --onnx=m.onnx --int8", INT8),
        ("# export\n# !trtexec --onnx=m.onnx --int8", INT8),
        ("out = !trtexec --onnx=m.onnx --int8", INT8),
        ("OUT=$(trtexec --onnx=m.onnx --int8 2>&1)", INT8),
        ("❯ trtexec --onnx=m.onnx --int8", INT8),
        ("cd /w &amp;&amp; trtexec --onnx=m.onnx --int8", INT8),
        ("docker run --entrypoint trtexec --gpus all image:1 --onnx=m.onnx --int8", INT8),
        ('A=(\n  --onnx=m.onnx\n)\nA+=(--int8)\ntrtexec "${A[@]}"', INT8),
        ('CMD ["trtexec", "--onnx=m.onnx", "--int8"]', INT8),
        ('command: ["trtexec"]\nargs: ["--onnx=m.onnx", "--int8"]', INT8),
        ("command:\n  - trtexec\n  - --onnx=m.onnx\n  - --int8\n", INT8),
        ('i: x\n  command: ["trtexec"]\n  args: ["--onnx=m.onnx", "--int8"]\n  m: [a]', INT8),
        ("  command:\n  - trtexec\n  args:\n  - --onnx=m.onnx\n  - '--int8'\n", INT8),
        ("add `--int8`\ntrtexec --onnx=m.onnx --int8", INT8),
        ("find . -exec trtexec --onnx=m.onnx --int8 \\;", INT8),
        ("parallel trtexec --onnx=m.onnx --int8 ::: 1 2", INT8),
        ('"program": "/x/trtexec", "args": ["--onnx=m.onnx", "--int8"]', INT8),
        ('spawn("trtexec", ["--onnx=m.onnx", "--int8"])', INT8),
        ('run(\n  "trtexec --onnx=m.onnx "\n  "--int8",\n  shell=True)', INT8),
        ('c = ["trtexec",\n  "--onnx=m.onnx",  # "--fp16",\n  "--int8"]\nrun(c, x=[', INT8),
        ('if [ ! -x "$T" ]; then echo "no trtexec at $T"; fi; "$T" --onnx=m.onnx --int8', INT8),
        ("trtexec --onnx='$HOME/m.onnx'", ("--onnx=$HOME/m.onnx",)),
        (r"trtexec --onnx=my\ model.onnx", ("--onnx=my model.onnx",)),
        ("trtexec --onnx=model(1).onnx", ("--onnx=model(1).onnx",)),
    ],
)
def test_the_command_inside_a_pasted_text(command: str, arguments: tuple[str, ...]) -> None:
    line = read_command_line(command)
    assert line.arguments == arguments
    assert line.notes == ()


@pytest.mark.parametrize(
    ("command", "variable", "mode"),
    [
        ("trtexec --onnx=m.onnx $EXTRA --int8", "$EXTRA", "placeholder-ranges"),
        ("trtexec --onnx=m.onnx --shapes=x:${B}x3 --int8", "${B}", "placeholder-ranges"),
        ("trtexec --onnx=%MODEL% --int8", "%MODEL%", "placeholder-ranges"),
        ("trtexec --onnx=$env:MODEL --int8", "$env:MODEL", "placeholder-ranges"),
        ("!trtexec --onnx={path} --int8", "{path}", "placeholder-ranges"),
        ("trtexec --onnx=$(pwd)/m.onnx --int8", "$(pwd)", "placeholder-ranges"),
        ("trtexec --onnx=m.onnx --int8 --iterations=$N", "$N", "placeholder-ranges"),
        ("cmd = f'trtexec --onnx={path} --int8'", "{path}", "placeholder-ranges"),
        ("system('trtexec --onnx={} --int8'.format(p))", "{}", "placeholder-ranges"),
        ("os.system('trtexec --onnx=%s --int8' % p)", "%s", "placeholder-ranges"),
        ("[TRTEXEC, f'--onnx={c[\"m\"][0]}', '--int8']", "{c['m'][0]}", "placeholder-ranges"),
        ("['trtexec', '--int8', '--onnx', path]", "{path}", "placeholder-ranges"),
        ('string c = "trtexec --onnx=" + p + " --int8";', "{p}", "placeholder-ranges"),
        ("e: m\n\t$(TRTEXEC) --onnx=$< --int8", "$<", "placeholder-ranges"),
        ("for %%f in (*.onnx) do trtexec --onnx=%%f --int8", "%%f", "placeholder-ranges"),
        (
            "trtexec --onnx=m.onnx --int8 --calib=<c.cache> --fp16",
            "<c.cache>",
            "random-calibration",
        ),
        ("trtexec --onnx=m.onnx --int8 --calib=...", "...", "random-calibration"),
        ("c = ['trtexec', '--onnx=m']\nc += ['--int8']", "c += ['--int8']", "not-int8"),
        ("c = ['trtexec', '--onnx=m']\nif i:\n  c.append('--int8')", "c.append", "not-int8"),
        ('A="--int8 --onnx=$M"; trtexec $A', "$M", "placeholder-ranges"),
        ("if x; then A=--int8; fi; trtexec --onnx=m.onnx $A", "$A", "not-int8"),
    ],
)
def test_the_value_of_a_variable_is_unknown(command: str, variable: str, mode: str) -> None:
    answer = explain(command)
    assert answer.mode == mode
    assert any(f"the value of {variable}" in text for text in answer.warnings)


@pytest.mark.parametrize("separator", ["; ", " && ", "\n", " || "])
def test_two_commands_are_both_named(separator: str) -> None:
    answer = explain(f"trtexec --onnx=a.onnx --int8{separator}trtexec --loadEngine=e")
    assert answer.mode == "placeholder-ranges"
    (note,) = (text for text in answer.warnings if "2 trtexec commands" in text)
    assert "`trtexec --onnx=a.onnx --int8`" in note
    assert "`trtexec --loadEngine=e`" in note


@pytest.mark.parametrize("join", ["\n", " \\ \n", " \\\n# --fp16 \\\n"])
def test_a_line_that_the_shell_does_not_join_is_named(join: str) -> None:
    answer = explain(f"trtexec --onnx=m.onnx{join}--int8")
    assert not answer.int8
    assert any("does not give `--int8` to trtexec" in text for text in answer.warnings)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("nvcr.io/nvidia/tensorrt:24.08-py3", "10.3.0"),
        ("nvcr.io/nvidia/l4t-tensorrt:r8.6.2-devel", "8.6.2"),
        ("nvcr.io/nvidia/l4t-jetpack:r35.4.1", "8.5.2"),
        ("nvcr.io/nvidia/deepstream:7.1-triton-multiarch", "10.3.0"),
        ("nvcr.io/nvidia/cuda:12.2.0-devel", "8.6"),
    ],
)
def test_an_image_names_its_version(image: str, version: str) -> None:
    assert explain(f"docker run {image} trtexec --onnx=m.onnx --int8").version == version


def test_a_log_names_its_own_version() -> None:
    log = (
        "&&&& RUNNING TensorRT.trtexec [TensorRT v{}]{} # /usr/src/tensorrt/bin/trtexec {}\n"
        "[01/02/2024-10:00:00] [I] === Model Options ===\n"
    )
    old = explain(log.format("101000", "", r"--onnx=C:\a\m.onnx --int8"))
    assert (old.version, old.tag) == ("10.10.0", "v10.10.0")
    assert old.options["--onnx"] == r"C:\a\m.onnx"
    assert explain(log.format("8601", " [b6]", "--onnx=m --int8")).version == "8.6.1"
    assert explain(log.format("110000", "", "--onnx=m --int8")).mode == "rejected"
    assert explain(log.format("8601", "", "--onnx=m --int8"), trt="10.3").version == "10.3"
    spaces = log.format("8601", "", "--onnx=m --int8").replace("/usr/src", "C:\\Program Files")
    assert explain(spaces).mode == "placeholder-ranges"
    older = explain("&&&& RUNNING TensorRT.trtexec # ./trtexec --onnx=m --int8")
    assert any("7.x or before" in text for text in older.warnings)


@pytest.mark.parametrize("dash", ["–", "—", "−", "‑‑", "–-", "-"])
def test_dashes_of_a_web_page(dash: str) -> None:
    answer = explain(f"trtexec --onnx=m.onnx {dash}int8")
    assert answer.mode == "rejected"
    assert any(f"{dash}int8 is not an option" in text for text in answer.advice)
    assert any("--int8 is" in text for text in answer.advice)


@pytest.mark.parametrize("value", ["“m.onnx”", "‘m.onnx’", "m.onnx\xa0"])
def test_quotes_of_a_web_page(value: str) -> None:
    advice = explain(f"trtexec --onnx={value} --int8").advice
    assert any("web page's quotes" in text for text in advice)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ("--onnx=m.onnx --int8 c.cache", "--calib=c.cache"),
        ("--onnx=m.onnx --int8 calibration.bin", "--calib=calibration.bin"),
        ("--int8 m.onnx", "--onnx=m.onnx"),
        ("m.onnx --int8", "--onnx=m.onnx"),
        ("--onnx=m.onnx --fp16 m.engine", "--saveEngine=m.engine"),
        ("--onnx=m.onnx --int8 true", "--int8 takes no value: leave true out"),
        ("--onnx m.onnx --int8", "--onnx=m.onnx"),
        ("--onnx= m.onnx --int8", "--onnx=m.onnx"),
        ("--onnx=m.onnx --int8 --calib my.table", "--calib=my.table"),
        ("--onnx=m.onnx --workspace 64", "--workspace=64"),
        ("onnx=m.onnx int8", "onnx=m.onnx is written --onnx=m.onnx"),
        ("--onnx:m.onnx --int8", "--onnx:m.onnx is written --onnx=m.onnx"),
        ("--version", "names the version"),
        ("--onnx=m.onnx --precision=int8", "each type has a flag of its own"),
    ],
)
def test_a_word_behind_an_option(options: str, hint: str) -> None:
    answer = explain(f"trtexec {options}")
    assert answer.mode == "rejected"
    assert any(hint in text for text in answer.advice), answer.advice
    assert not any("--int8=" in text for text in answer.advice)


# what NVIDIA's own parser, compiled from v8.6.1, made of each
@pytest.mark.parametrize(
    ("option", "refusal"),
    [
        ("--memPoolSize=4096", "Unknown memory pool: 4096"),
        ("--memPoolSize=Workspace:1", "Unknown memory pool: Workspace"),
        ("--memPoolSize=workspace:-1", "Negative memory pool size: -1"),
        ("--memPoolSize=workspace", "st"),
        ("--memPoolSize=dlaSRAM:1,workspace:2", None),
        ("--memPoolSize=workspace:4GB", None),
        ("--memPoolSize=", None),
        ("--layerPrecisions=c:int8+fp16", "Invalid DataType int8+fp16"),
        ("--layerOutputTypes=c:int8+fp16", None),
        ("--tacticSources=CUDNN", "Tactic source must be prefixed with + or -"),
        ("--tacticSources=-FOO", "Unknown tactic source: FOO"),
        ("--tacticSources=+CUDNN,-CUDNN", "Cannot enable and disable CUDNN"),
        ("--tacticSources=-CUDNN,+cublas", None),
        ("--layerDeviceTypes=c:dla", "Invalid Device Type dla"),
        ("--layerDeviceTypes=*:GPU,c:DLA", None),
        ("--hardwareCompatibilityLevel=ampere", "Unknown hardwareCompatibilityLevel: ampere"),
        ("--hardwareCompatibilityLevel=Ampere+", None),
        ("--preview=+old", "Unknown preview feature: old"),
        ("--preview=profileSharing0806", "Preview features must be prefixed with + or -"),
        ("--preview=-fasterDynamicShapes0805", None),
    ],
)
def test_values_that_trtexec_refuses(option: str, refusal: str | None) -> None:
    parsed = parse_trtexec(f"trtexec --onnx=m.onnx {option}", "8.6")
    assert (parsed.error or "").startswith(refusal or "")
    assert bool(parsed.error) == bool(refusal) == any("write --" in hint for hint in parsed.hints)


def test_constraints_alone_do_nothing() -> None:
    for trt in ("8.4", "8.6", "10.16"):
        answer = explain("trtexec --onnx=m.onnx --int8 --precisionConstraints=obey", trt=trt)
        assert any("does nothing alone" in text for text in answer.warnings)
    both = "trtexec --onnx=m.onnx --int8 --precisionConstraints=obey --layerPrecisions=c:fp16"
    assert not any("does nothing alone" in text for text in explain(both).warnings)


@pytest.mark.parametrize("kind", ["folder", "device", "pipe", "empty"])
def test_a_cache_that_opens_and_gives_no_byte(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    path = "/dev/null" if kind == "device" else kind
    answer = explain(f"trtexec --onnx=m.onnx --int8 --calib={path}")
    assert answer.cache_set_aside
    assert any(step.text == "makes no noise" for step in answer.steps)
    assert any("null pointers" in step.text for step in answer.steps)


def test_dla() -> None:
    dla = "trtexec --onnx=m.onnx --useDLACore="
    assert explain(f"{dla}0", has_qdq=False).fp16
    assert not explain(f"{dla}0 --int8", has_qdq=False).fp16
    off = explain(f"{dla}-1 --int8", has_qdq=False)
    assert any("is no DLA core" in text for text in off.warnings)
    assert not any("DLA" in step.text for step in off.steps)
    assert any(
        "explicit quantization" in text for text in explain(f"{dla}0", has_qdq=True).warnings
    )
    line = f"{dla}0 --int8 --calib=c --allowGPUFallback"
    new, notes = modern_command(line, "q.onnx")
    assert new == "trtexec --onnx=q.onnx"
    assert sum("no DLA" in note for note in notes) == 2
    assert "--useDLACore=0" in modern_command(line, "q.onnx", "11.4.1")[0]


@pytest.mark.parametrize(
    "option", ["--layerPrecisions", "--layerOutputTypes", "--layerDeviceTypes"]
)
@pytest.mark.parametrize(
    ("trt", "works"),
    [("8.6.0", False), ("8.6", False), ("9.1", True), ("9.2", False), ("10.16", True)],
)
def test_a_star_inside_a_layer_name(option: str, trt: str, works: bool) -> None:
    value = "GPU" if option == "--layerDeviceTypes" else "fp16"
    command = f"trtexec --onnx=m.onnx --int8 --precisionConstraints=obey {option}="
    answer = explain(f"{command}*:{value},b0_*:{value}", trt=trt)
    assert any("matches no layer" in text for text in answer.warnings) is not works
    assert not any(
        "matches no layer" in t for t in explain(f"{command}*:{value}", trt=trt).warnings
    )


def test_which_layers_an_entry_means() -> None:
    names = {"b0_*": True, "*_conv": True, "b0*conv": True, "b0_conv": True, "*": True}
    for pattern, expected in (names | {"b1_*": False, "b0_conv*conv": False}).items():
        assert layer_matches(pattern, "b0_conv", "v10.16") is expected


def test_migrate_leaves_the_layers_of_a_star_in_floating_point(tmp_path: Path) -> None:
    from trtlearn.calibration.cache import new_cache
    from trtlearn.model.course_data import model_path
    from trtlearn.model.read import read_model

    model = read_model(model_path("resnet"))
    cache = new_cache(dict.fromkeys(model.tensors, 0.05))
    line = "trtexec --onnx=m.onnx --int8 --calib=c --precisionConstraints=obey --layerPrecisions={}"
    whole = migrate(line.format("x:fp16"), model_path("resnet"), cache, tmp_path / "a.onnx")
    part = migrate(line.format("b1_*:fp16"), model_path("resnet"), cache, tmp_path / "b.onnx")
    assert any(name.startswith("b1_") for name in whole.qdq.quantized_nodes)
    assert not any(name.startswith("b1_") for name in part.qdq.quantized_nodes)
    assert part.qdq.quantized_nodes
