"""Train one of the three networks on a GPU and write its ONNX file (PyTorch).

    python -m recording.networks.train photo --cifar package --out trained
    python -m recording.networks.train detector --cifar package --digits digits.npz --out trained

``--seconds`` limits the training: after the first passes their number is cut to what fits. It is
written to <name>.train.json with the seed and the accuracy. One seed decides everything random; the
last bits depend on the order in which the GPU adds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from trtlearn.model.detections import decode, mean_ap

from . import photos, scenes
from .detector import Detector
from .detector import export as export_detector
from .detector import loss as detector_loss
from .photo import Photo
from .photo import export as export_photo
from .vit import Vit
from .vit import export as export_vit

SEED = 20261128
WARM = 0.15  # share of the training in which the rate rises


@dataclass(frozen=True)
class Plan:
    """How one network is trained."""

    passes: int
    batch: int
    rate: float
    decay: float
    sgd: bool


PLANS = {
    "photo": Plan(100, 512, 0.4, 5e-4, True),
    "vit": Plan(300, 512, 1e-3, 0.05, False),
    "detector": Plan(60, 128, 2e-3, 0.02, False),
}
NETS: dict[str, Any] = {"photo": Photo, "vit": Vit, "detector": Detector}
EXPORTS: dict[str, Any] = {"photo": export_photo, "vit": export_vit, "detector": export_detector}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def scaled(images: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
    """uint8 [N,H,W,3] on the device to float32 [N,3,H,W]."""
    mean, std = (torch.tensor(value, device=images.device) for value in (mean, std))
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def moved(images: torch.Tensor, reach: int = 4) -> torch.Tensor:
    """Each image mirrored or not, moved by up to ``reach`` pixels, and a square blanked."""
    count, _, size, _ = images.shape
    flip = torch.rand(count, 1, 1, 1, device=images.device) < 0.5
    images = torch.where(flip, images.flip(3), images)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    step = torch.randint(0, 2 * reach + 1, (2, count, 1), device=images.device)
    line = torch.arange(size, device=images.device)
    rows, columns = step[0] + line, step[1] + line
    index = torch.arange(count, device=images.device)[:, None, None]
    images = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    images = images.permute(0, 3, 1, 2)
    hole = torch.randint(0, size, (2, count, 1), device=images.device)
    near = [(line - hole[axis]).abs() <= 4 for axis in range(2)]
    return images.masked_fill((near[0][:, :, None] & near[1][:, None, :])[:, None], 0)


def coloured(images: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and colour of normalised photographs changed a little, one by one."""
    shape = (len(images), 1, 1, 1)
    gain = 1 + 0.4 * (torch.rand(shape, device=images.device) - 0.5)
    shift = 0.4 * (torch.rand((len(images), 3, 1, 1), device=images.device) - 0.5)
    grey = images.mean(1, keepdim=True)
    faded = torch.rand(shape, device=images.device) * 0.4
    return (images * (1 - faded) + grey * faded) * gain + shift


def mixed(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup: pairs of images and of labels (one-hot) blended by one share a batch."""
    share = float(np.random.beta(0.4, 0.4))
    order = torch.randperm(len(images), device=images.device)
    pairs = ((one, one[order]) for one in (images, labels))
    blended = [share * first + (1 - share) * second for first, second in pairs]
    return blended[0], blended[1]


class Averaged:
    """The network's moving average, which is what is exported."""

    def __init__(self, net: torch.nn.Module, keep: float) -> None:
        self.keep = keep
        self.state = {key: value.detach().clone() for key, value in net.state_dict().items()}

    def update(self, net: torch.nn.Module, step: int) -> None:
        keep = min(self.keep, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in net.state_dict().items():
                if value.dtype.is_floating_point:
                    self.state[key].lerp_(value, 1 - keep)
                else:
                    self.state[key].copy_(value)


def optimizer_of(net: torch.nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; biases, gains and positions are not decayed."""
    decayed = [p for p in net.parameters() if p.ndim > 1 and p.shape[0] > 1]
    others = [p for p in net.parameters() if not (p.ndim > 1 and p.shape[0] > 1)]
    groups = [
        {"params": decayed, "weight_decay": plan.decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if plan.sgd:
        return torch.optim.SGD(groups, lr=plan.rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98))


def rate_at(share: float) -> float:
    """The rate's factor: up in a line, then down by a cosine."""
    if share < WARM:
        return 0.05 + 0.95 * share / WARM
    return 0.5 * (1 + float(np.cos(np.pi * (share - WARM) / (1 - WARM)))) * 0.999 + 0.001


def fit(
    net: Any,
    plan: Plan,
    count: int,
    step_loss: Callable[[torch.Tensor], torch.Tensor],
    seconds: float,
) -> tuple[Any, int, float]:
    """Train; the averaged network, the number of passes and the seconds."""
    optimizer, averaged = optimizer_of(net, plan), Averaged(net, 0.999)
    steps, passes, done = max(count // plan.batch, 1), plan.passes, 0
    begun, warmed = time.monotonic(), 0.0
    number = 0
    while number < passes:
        order = torch.randperm(count, device=device())
        total = torch.zeros((), device=device())
        for at in range(steps):
            factor = rate_at(done / (steps * passes))
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * factor
            with torch.autocast("cuda", torch.bfloat16, torch.cuda.is_available()):
                value = step_loss(order[at * plan.batch : (at + 1) * plan.batch])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            done += 1
            averaged.update(net, done)
            total += value.detach()
        mean = float(total) / steps
        number += 1
        spent = time.monotonic() - begun
        if number == 1:
            warmed = spent
        if number == 3:  # the first pass also loads and chooses kernels
            each = (spent - warmed) / 2
            passes = max(min(plan.passes, int((seconds - spent) / each) + number), number)
            print(f"{each:.2f} s a pass: {passes} passes", flush=True)
        if number % 10 == 0 or number < 4:
            print(f"pass {number}/{passes}: loss {mean:.4f}, {spent:.0f} s", flush=True)
        if not np.isfinite(mean):
            raise RuntimeError(f"the loss became {mean}")
    net.load_state_dict(averaged.state)
    return net.eval(), passes, time.monotonic() - begun


def classifier(name: str, options: argparse.Namespace, plan: Plan) -> tuple[Any, dict[str, Any]]:
    """Train photo or vit; the network and its accuracy on all 10,000 test photographs."""
    whole = photos.load(options.cifar)
    _, left = photos.split(whole)
    left = left[: options.few or len(left)]
    images = scaled(
        torch.from_numpy(whole["train_images"][left]).to(device()), photos.MEAN, photos.STD
    )
    labels = torch.from_numpy(whole["train_labels"][left]).to(device()).long()
    onehot = F.one_hot(labels, 10).float()
    net = NETS[name]().to(device())
    if name == "photo":
        net = net.to(memory_format=torch.channels_last)

    def step_loss(rows: torch.Tensor) -> torch.Tensor:
        seen, wanted = moved(images[rows]), onehot[rows]
        if name == "vit":
            seen, wanted = mixed(coloured(seen), wanted)
        else:
            seen = seen.contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(net(seen), wanted, label_smoothing=0.1)

    net, passes, seconds = fit(net, plan, len(images), step_loss, options.seconds)
    test = scaled(torch.tensor(whole["test_images"]).to(device()), photos.MEAN, photos.STD)
    with torch.inference_mode():
        answers = torch.cat([net(part).argmax(1) for part in test.split(500)]).cpu().numpy()
    right = float((answers == whole["test_labels"]).mean())
    facts = {
        "passes": passes,
        "seconds": seconds,
        "trained_with": len(left),
        "test_accuracy": right,
    }
    return net, facts


def finder(options: argparse.Namespace, plan: Plan) -> tuple[Any, dict[str, Any]]:
    """Train the detector on scenes composed here; the network and its mAP50 on the test scenes."""
    whole = photos.load(options.cifar)
    _, left = photos.split(whole)
    with np.load(options.digits) as file:
        digits, labels = file["images"], file["labels"]
    count = options.few or options.scenes
    training = training_scenes(digits, labels, whole["train_images"][left], count)
    images, boxes, classes = (
        torch.from_numpy(training[key]).to(device()) for key in ("images", "boxes", "classes")
    )
    net = Detector().to(device()).to(memory_format=torch.channels_last)

    def step_loss(rows: torch.Tensor) -> torch.Tensor:
        seen = images[rows].permute(0, 3, 1, 2).float() / 255
        light = 0.7 + 0.5 * torch.rand(len(rows), 3, 1, 1, device=seen.device)
        seen = seen * light + 0.02 * torch.randn_like(seen)
        raw = net(seen.contiguous(memory_format=torch.channels_last)).float()
        with torch.autocast(device().type, enabled=False):
            return detector_loss(net, raw, boxes[rows], classes[rows])

    net, passes, seconds = fit(net, plan, count, step_loss, options.seconds)
    with np.load(photos.DATA / "images" / "scenes.npz") as shipped:
        test = {key: shipped[f"test_{key}"] for key in ("images", "boxes", "classes")}
    inputs = torch.from_numpy(scenes.normalise(test["images"])).to(device())
    with torch.inference_mode():
        output = (
            torch.cat([net.decode(net(part)) for part in inputs.split(100)]).float().cpu().numpy()
        )
    score = mean_ap(decode(output), test["boxes"], test["classes"])
    return net, {"passes": passes, "seconds": seconds, "trained_with": count, "test_map50": score}


def training_scenes(digits: Any, labels: Any, pictures: Any, count: int, part: int = 500) -> Any:
    """``count`` training scenes, composed by several processes, ``part`` scenes a seed."""
    from concurrent.futures import ProcessPoolExecutor

    sizes = [min(part, count - at) for at in range(0, count, part)]
    with ProcessPoolExecutor(min(len(sizes), len(_cores()))) as pool:
        jobs = [
            pool.submit(scenes.compose, digits, labels, pictures, size, SEED + 1000 + number)
            for number, size in enumerate(sizes)
        ]
        parts = [job.result() for job in jobs]
    return {key: np.concatenate([one[key] for one in parts]) for key in parts[0]}


def _cores() -> set[int]:
    import os

    return os.sched_getaffinity(0)


def exported(name: str, net: Any) -> tuple[bytes, float]:
    """The ONNX file, and the largest difference between ONNX Runtime's answers and PyTorch's."""
    import onnxruntime

    net = net.float().cpu().eval()
    content = EXPORTS[name](net).SerializeToString(deterministic=True)
    size = scenes.SIZE if name == "detector" else 32
    noise = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = net(noise)
        ours = (net.decode(ours) if name == "detector" else ours).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: noise.numpy()})[0]
    return content, float(np.abs(ours - theirs).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", choices=PLANS)
    parser.add_argument("--cifar", type=Path, required=True, help="the npm package's folder")
    parser.add_argument("--digits", type=Path, help="the training digits that scenes.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--scenes", type=int, default=24000)
    parser.add_argument("--few", type=int, help="train with so few images: to try the script")
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    plan = PLANS[options.network]
    changes = {key: getattr(options, key) for key in ("passes", "rate", "batch")}
    plan = Plan(**{**vars(plan), **{key: value for key, value in changes.items() if value}})
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    begun = time.monotonic()
    if options.network == "detector":
        net, facts = finder(options, plan)
    else:
        net, facts = classifier(options.network, options, plan)
    content, apart = exported(options.network, net)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.network}.onnx").write_bytes(content)
    facts |= {"network": options.network, "seed": SEED, "plan": vars(plan)}
    facts |= {"torch": torch.__version__, "onnx_largest_difference": apart}
    facts |= {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}
    facts |= {"command": "python -m recording.networks.train " + shlex.join(sys.argv[1:])}
    text = json.dumps(facts, indent=2)
    (options.out / f"{options.network}.train.json").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{time.monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
