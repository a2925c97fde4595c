"""What gives access is masked, whatever it is called and wherever it stands; what only looks like it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inspectcli.commands.hparams.run import read_hparams
from inspectcli.hparams.privacy import SECRET, without_secrets


@pytest.mark.parametrize(
    ("key", "value", "locator"),
    [
        ("api_key", "abc", ""),
        ("wandbApiKey", "abc", ""),
        ("password", 7734211, "db"),
        ("passwd", "abc", ""),
        ("client_secret", "abc", ""),
        ("hf_token", "hf_abc", ""),
        ("AWS_SECRET_ACCESS_KEY", "abc", "env"),
        ("wandb_key", "abc12345", ""),
        ("hub", "abc12345", "tokens"),
        ("wandb", "abc", "secrets"),
        ("note", "hf_abcdefgh1234", ""),
    ],
)
def test_secrets(key: str, value: object, locator: str) -> None:
    assert without_secrets(key, value, locator) == SECRET


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("mysql://user:pw123@db.example.org/x", f"mysql://user:{SECRET}@db.example.org/x"),
        ("http://example.org/?a=1&token=t123&b=2", f"http://example.org/?a=1&token={SECRET}&b=2"),
        ("train.py --wandb-key k123 --lr 0.1", f"train.py --wandb-key {SECRET} --lr 0.1"),
        ("HF_TOKEN=t123 python train.py", f"HF_TOKEN={SECRET} python train.py"),
        (["train.py", "--hf-token", "t123", "--lr", "1"], ["train.py", "--hf-token", SECRET, "--lr", "1"]),
        ({"api_key": "k", "lr": 1}, {"api_key": SECRET, "lr": 1}),
    ],
)
def test_secrets_inside_of_other_values(value: object, shown: object) -> None:
    assert without_secrets("command", value) == shown


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cls_token", "[CLS]"), ("pad_token", "<pad>"), ("eos_token", "<|endoftext1|>"), ("max_tokens", 2048),
        ("tokens", 300_000), ("key_dim", 24), ("token_dropout", 0.15), ("metric_key", "val_loss"), ("api_key", None),
        ("num_key_value_heads", 8), ("url", "https://example.org/models?revision=main"), ("author_id", 3),
        ("tokenizer", "bpe-32k"), ("key", "image"), ("betas", [0.9, 0.999]), ("password", ""),
    ],
)  # fmt: skip
def test_no_secrets(key: str, value: object) -> None:
    assert without_secrets(key, value) is value


def test_no_way_to_a_row_shows_one(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"lr": 0.1, "env": {"WANDB_API_KEY": "kaaaa1111"}}))
    found = read_hparams(tmp_path / "c.json")
    assert found["learning_rate"] == 0.1
    assert "kaaaa1111" not in str(found.rows) + json.dumps(found.document(everything=True))
