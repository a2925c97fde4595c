"""PI3xx: first what must be left alone, then what is found, with its words and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models.judged import write
from torch import nn

from inspectcli.analysis.findings import Finding
from inspectcli.commands.inspect.run import inspect


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.bn = nn.BatchNorm1d(32)
        self.head = nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.body:
            x = layer(x).relu()
        return self.head(self.bn(x))


def trained(frozen: tuple[str, ...] = (), lr: float = 1e-3) -> tuple[Net, torch.optim.AdamW]:
    """After 20 steps; a frozen layer gets no gradient."""
    torch.manual_seed(0)
    net = Net()
    for name in frozen:
        net.get_submodule(name).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    for _ in range(20):
        optimizer.zero_grad()
        x = torch.randn(64, 32)
        (net(x) - x[:, :16]).square().mean().backward()
        optimizer.step()
    return net, optimizer


def findings(target: Any) -> list[Finding]:
    return [f for f in inspect(target).files[0].findings if f.code.startswith("PI3")]


def saved(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, **more: Any) -> str:
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), **more}, path)
    return str(path)


# -- what must be left alone ----------------------------------------------------------------------------


def test_a_fresh_model_is_as_it_should_be() -> None:
    """It is said, in a note, and nothing else is."""
    for fresh in (Net(), nn.TransformerEncoderLayer(64, 4, 128)):
        assert {(f.code, f.severity.value) for f in findings(fresh)} <= {("PI320", "note")}


def test_a_trained_model(tmp_path: Path) -> None:
    assert findings(trained()[0].state_dict()) == []
    assert findings(saved(tmp_path / "a.pt", *trained())) == []


@pytest.mark.parametrize(
    "more",
    [
        {"fc.bias": torch.zeros(64)},
        {"ln.weight": torch.ones(64), "ln.bias": torch.zeros(64)},
        {"norm.running_mean": torch.randn(8), "norm.num_batches_tracked": torch.tensor(0)},
        {"attn_mask": torch.zeros(32, 32).uniform_(-0.1, 0.1)},
        {"embed.weight": torch.cat([torch.zeros(1, 32), torch.randn(99, 32) * torch.rand(99, 1)])},
        {"small.weight": torch.empty(3, 4).uniform_(-0.5, 0.5)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_constants_beside_a_trained_model(more: dict[str, torch.Tensor]) -> None:
    assert findings(trained()[0].state_dict() | more) == []


def test_a_trained_adapter() -> None:
    torch.manual_seed(0)
    q = "model.layers.{}.self_attn.q_proj.lora_{}.weight"
    adapter = {q.format(i, "A"): torch.randn(4, 64) / 3 for i in range(3)}
    assert findings(adapter | {q.format(i, "B"): torch.randn(64, 4) for i in range(3)}) == []


# -- what is found --------------------------------------------------------------------------------------


def test_a_layer_without_a_gradient() -> None:
    net, _ = trained(frozen=("body.1",))
    assert findings(net.state_dict()) == [
        Finding(
            "PI301", "warning", "body.1.weight",
            "untouched since initialization: PyTorch default, U(±1/sqrt(fan_in)) = U(±0.1768)",
            "see whether it is frozen on purpose; else check that it is used in `forward` and given to the optimizer",
            {"formula": "PyTorch default, U(±1/sqrt(fan_in)) = U(±0.1768)"},
        )
    ]  # fmt: skip


def body(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Trained blocks, and what is put beside them or in their place; `__` stands for a dot."""
    made = {f"h.{i}.fc.weight": torch.randn(72, 72).cumsum(0) / 40 for i in range(4)}
    return made | {name.replace("__", "."): value for name, value in more.items()}


#: Drawn or constructed on purpose, beside trained blocks: at most a note.
ODD: dict[str, dict[str, torch.Tensor]] = {
    "a permutation": {"flow__perm__weight": torch.eye(48)[torch.randperm(48)]},
    "an identity": {"flow__lu__weight": torch.eye(32)},
    "a Hadamard matrix": {"rotation__weight": torch.tensor([[1.0, 1.0], [1.0, -1.0]]).kron(torch.eye(1)) / 2**0.5},
    "random features": {"attn__projection_matrix": torch.linalg.qr(torch.randn(32, 32))[0]},
    "features under another name": {"attn__phi": torch.linalg.qr(torch.randn(32, 32))[0]},
    "a target of random network distillation": {"rnd_target__0__weight": nn.Linear(64, 64).weight.detach()},
    "a layer that cannot be told": {
        "fc__weight": nn.init.kaiming_normal_(torch.empty(64, 64, dtype=torch.float64)).float()
    },
}


@pytest.mark.parametrize("more", ODD.values(), ids=ODD.keys())
def test_odd_things_are_at_most_a_note(more: dict[str, torch.Tensor]) -> None:
    assert [f for f in findings(body(**more)) if str(f.severity) != "note"] == []


def test_a_layer_drawn_anew_whose_siblings_have_moved(tmp_path: Path) -> None:
    torch.manual_seed(4)
    (tmp_path / "config.json").write_text('{"initializer_range": 0.02}')
    anew = (torch.randn(72, 72, dtype=torch.float64) * 0.02).float()  # not on the grid that would prove it
    path = write(tmp_path / "model.safetensors", body(h__2__fc__weight=anew))
    (found,) = inspect(str(path)).files[0].findings
    assert (found.code, str(found.severity), found.tensor) == ("PI301", "warning", "h.2.fc.weight")
    assert found.message == "cannot be told from initializer_range, N(0, 0.02); 3 siblings in other blocks have moved"
    assert found.figures["siblings_moved"] == 3


def test_a_layer_that_is_normal_by_chance_is_a_note() -> None:
    torch.manual_seed(4)
    found = findings(body(h__2__fc__weight=(torch.randn(72, 72, dtype=torch.float64) * 0.0317).float()))
    assert [(f.code, str(f.severity)) for f in found] == [("PI301", "note")]
    assert "no known initializer; 3 siblings in other blocks have moved" in found[0].message


def test_a_layer_that_torch_drew_anew() -> None:
    torch.manual_seed(4)
    (found,) = findings(body(h__2__fc__weight=torch.randn(72, 72) * 0.02))
    assert (found.code, str(found.severity), found.tensor) == ("PI301", "warning", "h.2.fc.weight")
    assert found.message.startswith("untouched since initialization: ")


def test_a_new_head_as_the_configuration_draws_it(tmp_path: Path) -> None:
    torch.manual_seed(4)
    (tmp_path / "config.json").write_text('{"initializer_range": 0.02}')
    path = write(tmp_path / "model.safetensors", body(classifier__weight=torch.randn(48, 96) * 0.02))
    assert [(f.code, str(f.severity), f.tensor) for f in inspect(str(path)).files[0].findings] == [
        ("PI302", "warning", "classifier.weight")
    ]


def test_a_new_head() -> None:
    net, _ = trained(frozen=("head",))
    assert findings(net.state_dict()) == [
        Finding(
            "PI302", "warning", "head.weight",
            "untouched since initialization: PyTorch default, U(±1/sqrt(fan_in)) = U(±0.1768)",
            "fine-tune the model before using its head, or load the checkpoint that has one",
            {"formula": "PyTorch default, U(±1/sqrt(fan_in)) = U(±0.1768)"},
        )
    ]  # fmt: skip


def test_a_new_adapter_is_said_to_be_new() -> None:
    torch.manual_seed(0)
    adapter = {}
    for i in range(3):
        a = nn.Linear(64, 4, bias=False)  # PEFT draws A as a Linear and leaves B at zero
        adapter[f"base_model.model.h.{i}.attn.lora_A.weight"] = a.weight.detach()
        adapter[f"base_model.model.h.{i}.attn.lora_B.weight"] = torch.zeros(64, 4)
    assert findings(adapter) == [
        Finding(
            "PI303", "warning", None,
            "all 3 B matrices are zeros: the adapter is as it was created",
            "check that the adapter's parameters require gradients and are given to the optimizer",
            {"count": 3, "first": "base_model.model.h.0.attn.lora_B.weight"},
        )
    ]  # fmt: skip


def test_one_zero_b_among_trained_ones() -> None:
    adapter = {f"h.{i}.lora_B.weight": torch.randn(64, 4) * (i != 1) for i in range(3)}
    (found,) = findings(adapter)
    assert (found.code, found.tensor, found.message) == ("PI303", "h.1.lora_B.weight", "all 256 values are 0")


def test_a_batch_norm_that_saw_no_batch() -> None:
    state = trained()[0].state_dict() | {f"new.{k}": v for k, v in nn.BatchNorm1d(8).state_dict().items()}
    assert findings(state) == [
        Finding(
            "PI304", "warning", "new.num_batches_tracked",
            "num_batches_tracked is 0, the running mean is 0",
            "run training data through the model in training mode, or remove the layer",
            {"batches": 0},
        )
    ]  # fmt: skip


def norms(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Trained blocks with a batch normalization that has measured, and what is put in their place."""
    made = body()
    for i in range(2):
        made |= {f"h.{i}.bn.running_mean": torch.randn(8), f"h.{i}.bn.running_var": torch.rand(8) + 0.5}
        made |= {f"h.{i}.bn.num_batches_tracked": torch.tensor(160)}
    return made | {name.replace("__", "."): value for name, value in more.items()}


MEASURED: dict[str, dict[str, torch.Tensor]] = {
    "all": {},
    "one dead channel": {"h__1__bn__running_var": torch.tensor([0.0, *[1.0] * 7])},
    "a mean of 0 alone": {"h__1__bn__running_mean": torch.zeros(8)},
    "a variance of 1 alone": {"h__1__bn__running_var": torch.ones(8)},
}


@pytest.mark.parametrize("more", MEASURED.values(), ids=MEASURED.keys())
def test_statistics_that_batches_made(more: dict[str, torch.Tensor]) -> None:
    assert findings(norms(**more)) == []


def test_statistics_that_no_batch_made() -> None:
    start = {"h__1__bn__running_mean": torch.zeros(8), "h__1__bn__running_var": torch.ones(8)}
    (found,) = findings(norms(**start))
    assert (found.code, str(found.severity), found.tensor) == ("PI304", "warning", "h.1.bn.running_mean")
    assert found.message == "the running mean is 0 and the variance is 1 in all 8 channels, after 160 batches"
    uncounted = norms(**start)
    del uncounted["h.1.bn.num_batches_tracked"]
    assert [f.message[-18:] for f in findings(uncounted)] == ["in a trained model"]


def test_variances_of_zero_among_others() -> None:
    (found,) = findings(norms(h__1__bn__running_var=torch.zeros(8)))
    assert (found.code, found.tensor, found.message) == (
        "PI304", "h.1.bn.running_var", "the variance is 0 in all 8 channels",
    )  # fmt: skip


def test_an_average_that_stayed_at_its_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = Net().state_dict()
    net, _ = trained()
    torch.save({"model": net.state_dict(), "ema": start}, tmp_path / "a.pt")
    assert findings(str(tmp_path / "a.pt")) == [
        Finding(
            "PI305", "warning", None,
            "5 of 5 averaged weights are as initialized, first ema.body.0.weight",
            "check that the average is updated in every step, and that its decay is not 1",
            {"count": 5, "of": 5, "first": "ema.body.0.weight"},
        )
    ]  # fmt: skip


def test_an_average_that_follows(tmp_path: Path) -> None:
    net, _ = trained()
    average = {name: value * 0.99 for name, value in net.state_dict().items()}
    torch.save({"model": net.state_dict(), "ema": average}, tmp_path / "a.pt")
    assert findings(str(tmp_path / "a.pt")) == []


def test_the_update_ratio_is_the_step_that_adam_makes(tmp_path: Path) -> None:
    """One more step with the gradient that the average remembers."""
    net, optimizer = trained(lr=1e-3)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = 1.0, 0.0
    path = saved(tmp_path / "a.pt", net, optimizer)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = optimizer.state[p]["exp_avg"].clone()
        optimizer.state[p]["step"].fill_(1e12)  # its correction of the bias is over
    betas = optimizer.param_groups[0]["betas"]
    for group in optimizer.param_groups:
        group["betas"] = (betas[0], 1 - 1e-9)
    optimizer.step()
    found = {f.tensor: f for f in findings(path) if f.code == "PI306"}
    weights = [f"body.{i}.weight" for i in range(4)] + ["head.weight"]
    assert {name.removeprefix("model.") for name in found if name} == set(weights)
    for name in weights:
        change = (net.get_parameter(name).detach() - before[name]).norm() / before[name].norm()
        (figures,) = (f.figures for key, f in found.items() if key and key.endswith(name))
        assert figures == {"ratio": pytest.approx(change.item(), rel=0.2), "learning_rate": 1.0}
    first = next(iter(found.values()))
    assert first.message == (
        f"the next update is {first.figures['ratio']:.2g} of the weights at learning rate 1: typically near 1e-3"
    )
    assert str(first.severity) == "note"


def test_a_frozen_learning_rate(tmp_path: Path) -> None:
    net, optimizer = trained()
    for group in optimizer.param_groups:
        group["lr"] = 1e-12
    assert {f.code for f in findings(saved(tmp_path / "a.pt", net, optimizer))} == {"PI306"}


def test_a_parameter_whose_gradients_were_all_zero(tmp_path: Path) -> None:
    net, optimizer = trained()
    for p in net.body[1].parameters():
        optimizer.state[p]["exp_avg_sq"].zero_()
        optimizer.state[p]["exp_avg"].zero_()
    assert findings(saved(tmp_path / "a.pt", net, optimizer)) == [
        Finding(
            "PI307", "warning", f"model.body.1.{leaf}",
            "the mean square of its gradients is 0",
            "check that it is used in `forward`, and that nothing detaches it",
            {"exp_avg_sq": 0.0},
        )
        for leaf in ("weight", "bias")
    ]  # fmt: skip


def test_gradients_of_one_layer_far_above_the_others(tmp_path: Path) -> None:
    net, optimizer = trained()
    optimizer.state[net.head.weight]["exp_avg_sq"] *= 1e14
    optimizer.state[net.head.weight]["exp_avg"] *= 1e7
    (found,) = findings(saved(tmp_path / "a.pt", net, optimizer))
    assert (found.code, str(found.severity), found.tensor) == ("PI308", "note", "model.head.weight")
    assert found.message.startswith("root mean square gradient ")
    assert found.message.endswith("times the median of 12 parameters")
    expected = optimizer.state[net.head.weight]["exp_avg_sq"].double().mean().sqrt().item()
    assert found.figures["rms"] == pytest.approx(expected, rel=1e-6)


def test_a_state_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    net, optimizer = trained()
    state = optimizer.state[net.head.weight]
    state["exp_avg_sq"][0, 0] = -1
    state["exp_avg"][0, 1] = float("nan")
    assert [f.code for f in findings(saved(tmp_path / "a.pt", net, optimizer))] == ["PI309"]
