"""A file that no reader takes gets one line: what it looks like, and what to do."""

from __future__ import annotations

import gzip
import io
import lzma
import sqlite3
import zipfile
from pathlib import Path

import pytest
from support.locations import in_memory

from inspectcli.errors import DamagedFileError, NotReadableError, PinspectError, UnsupportedFormatError
from inspectcli.formats import open_checkpoint, open_file

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n"


def refusal(data: bytes) -> PinspectError:
    with pytest.raises(PinspectError) as caught:
        open_file(in_memory("x", data))
    error = caught.value
    assert "\n" not in error.message
    assert error.message.isprintable()
    assert len(error.message) < 200
    assert error.hint
    return error


LOOKS: dict[str, tuple[bytes, str, str]] = {
    "git lfs": (LFS, "a Git LFS pointer, not the file itself", "git lfs pull"),
    "html": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page", "fetch the file again"),
    "html in small letters": (b"\n\n  <!doctype html>", "a web page", "fetch the file again"),
    "html without a type": (b"<html lang=en>", "a web page", "fetch the file again"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page", "fetch the file again"),
    "gguf": (b"GGUF\3\0\0\0" + bytes(16), "a GGUF file", "gguf-dump"),
    "ggml": (b"tjgg\3\0\0\0" + bytes(16), "an old GGML file", "GGUF"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(20), "a TensorFlow Lite model", "exported from"),
    "executorch": (b"\x38\0\0\0ET12eh00" + bytes(20), "an ExecuTorch program", "exported from"),
    "executorch tensors": (b"\x38\0\0\0FT01" + bytes(20), "tensors of an ExecuTorch program", "exported from"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\0", "zstd-compressed data", "zstd -d"),
    "gzip": (gzip.compress(b"x" * 100), "gzip-compressed data", "gunzip"),
    "xz": (lzma.compress(b"x" * 100), "xz-compressed data", "unxz"),
    "bzip2": (b"BZh91AY&SY", "bzip2-compressed data", "bunzip2"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive", "unpack it"),
    "rar": (b"Rar!\x1a\x07\x01\0", "a rar archive", "unpack it"),
    "elf": (b"\x7fELF\2\1\1" + bytes(9), "an executable or shared library", "checkpoint"),
    "exe": (b"MZ\x90\0\3\0\0\0", "a Windows executable", "checkpoint"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a picture", "checkpoint"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture", "checkpoint"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document", "checkpoint"),
    "parquet": (b"PAR1\x15\x04\x15", "a Parquet file", "checkpoint"),
    "arrow": (b"ARROW1\0\0\xff\xff\xff\xff", "an Arrow file", "checkpoint"),
    "matlab 5": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + b" " * 90, "a MATLAB 5 file", "-v7.3"),
    "json": (b'{"architectures": ["LlamaForCausalLM"]}', "JSON text", "folder"),
    "json list": (b"\n [1, 2]", "JSON text", "folder"),
    "yaml": (b"---\nlr: 0.1\n", "text, perhaps a config", "folder"),
    "yaml without dashes": (b"learning_rate: 0.001\nepochs: 10\n", "text, perhaps a config", "folder"),
    "toml": (b'name = "x"\n', "text, perhaps a config", "folder"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xb1\x01", "an ONNX model", "exported from"),
    "onnx without a producer": (b"\x08\x07:\x10\n\x05\n\x01x", "an ONNX model", "exported from"),
    "core ml": (b"\x08\x01\x12\x80\x01\n\x10\n\x05input com.apple.CoreML", "a Core ML model", "exported from"),
    "core ml weights": (b"\x02\0\0\0\x02\0\0\0" + bytes(56) + b"\xef\xbe\xad\xde" + bytes(60), "Core ML weights",
         "exported from"),
    "saved model": (b"\x08\x01\x12\x80\x01\n\x10StatefulPartitionedCall", "a TensorFlow SavedModel graph", ""),
    "tensorflow index": (b"\0\0\x02\x08\x01" + bytes(60) + 0xDB4775248B80FB57.to_bytes(8, "little"),
         "the index of a TensorFlow checkpoint", "save the model as"),
    "short text": (b"hello there", "text of 11 bytes, not a checkpoint: b'hello there'", "checkpoint"),
    "anything else": (b"\xde\xad\xbe\xee\xff\x01\x02\x03\x04",
         "no known checkpoint format: it begins with de ad be ee ff 01 02 03", "pinspect --help"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOOKS)
def test_the_first_bytes_say_what_it_looks_like(case: str) -> None:
    data, message, hint = LOOKS[case]
    error = refusal(data)
    assert isinstance(error, UnsupportedFormatError)
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize("case", LOOKS)
def test_a_longer_file_looks_the_same(case: str) -> None:
    data, message, _ = LOOKS[case]
    if case in ("short text", "tensorflow index"):
        data = (bytes([7]) * 100_000 if case == "tensorflow index" else b"") + data
    else:
        data += b"\1\2" * 100_000
    assert message in refusal(data).message


def test_an_empty_file_is_called_empty() -> None:
    error = refusal(b"")
    assert type(error) is NotReadableError
    assert error.message == "the file is empty (0 bytes)"


@pytest.mark.parametrize("n", [1, 100, 4096, 1_000_000])
def test_zeros_were_never_filled(n: int) -> None:
    error = refusal(bytes(n))
    assert type(error) is DamagedFileError
    assert error.message == f"the first {min(n, 4096):,} bytes are zero: the file was never filled"


@pytest.mark.parametrize("byte", range(256))
def test_a_file_of_one_byte_is_refused_and_no_crash(byte: int) -> None:
    assert refusal(bytes([byte])).message


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return out.getvalue()


def test_a_zip_that_is_no_checkpoint_says_what_it_holds() -> None:
    error = refusal(archive("readme.txt", "a/b.csv", "c", "d", "e"))
    assert error.message == "a zip archive, but no checkpoint: it holds readme.txt, a/b.csv, c and 2 more"
    assert error.hint == "unpack it and name the file inside"


def test_an_empty_zip_is_called_empty() -> None:
    assert "empty" in refusal(archive()).message


@pytest.mark.parametrize("start", [b"#!/bin/sh\n", b"\x7fELF", b"\1\2\3"])
def test_a_zip_behind_something_else_is_two_files(start: bytes) -> None:
    error = refusal(start + archive("data.npy"))
    assert isinstance(error, DamagedFileError)
    assert "two readers would see two files" in error.message


def test_terminal_codes_of_a_text_do_not_reach_the_message() -> None:
    assert "\x1b" not in refusal(b"hi \x1b[31mred\x07\r\n").message


def test_a_real_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    connection = sqlite3.connect(path)
    connection.execute("create table trials (number integer)")
    connection.commit()
    connection.close()
    with pytest.raises(UnsupportedFormatError, match="a SQLite database") as caught:
        open_checkpoint(path)
    assert caught.value.path == str(path)
    assert "hyperparameters" in caught.value.hint


def test_a_config_beside_a_model_points_to_the_checkpoint(fixtures: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="JSON text") as caught:
        open_checkpoint(fixtures / "sharded" / "config.json")
    assert "folder" in caught.value.hint
