"""transformers, from small configs; `save_pretrained` writes config.json beside."""

from __future__ import annotations

from typing import Any

from models.zoo_register import architecture
from torch import nn

_SMALL = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}


def pretrained(kind: str, config: str, **options: Any) -> nn.Module:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**options))
    return made


@architecture("transformers")
def gpt2() -> nn.Module:
    return pretrained("GPT2LMHeadModel", "GPT2Config", n_embd=96, n_layer=4, n_head=4, vocab_size=400, n_positions=64)


@architecture("transformers")
def gpt2_other_range() -> nn.Module:
    return pretrained(
        "GPT2LMHeadModel",
        "GPT2Config",
        n_embd=96,
        n_layer=3,
        n_head=4,
        vocab_size=400,
        n_positions=64,
        initializer_range=0.041,
    )


@architecture("transformers")
def bert() -> nn.Module:
    return pretrained("BertForMaskedLM", "BertConfig", vocab_size=500, max_position_embeddings=64, **_SMALL)


@architecture("transformers")
def roberta() -> nn.Module:
    return pretrained(
        "RobertaForSequenceClassification", "RobertaConfig", vocab_size=500, max_position_embeddings=66, **_SMALL
    )


@architecture("transformers")
def distilbert() -> nn.Module:
    return pretrained(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        vocab_size=500,
        dim=96,
        hidden_dim=256,
        n_layers=3,
        n_heads=4,
        max_position_embeddings=64,
    )


@architecture("transformers")
def t5() -> nn.Module:
    return pretrained(
        "T5ForConditionalGeneration",
        "T5Config",
        vocab_size=400,
        d_model=96,
        d_kv=24,
        d_ff=256,
        num_layers=2,
        num_heads=4,
    )


@architecture("transformers")
def t5_gated() -> nn.Module:
    return pretrained(
        "T5ForConditionalGeneration",
        "T5Config",
        vocab_size=400,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


@architecture("transformers")
def llama() -> nn.Module:
    return pretrained("LlamaForCausalLM", "LlamaConfig", vocab_size=500, num_key_value_heads=4, **_SMALL)


@architecture("transformers")
def mistral() -> nn.Module:
    return pretrained(
        "MistralForCausalLM",
        "MistralConfig",
        vocab_size=500,
        num_key_value_heads=2,
        initializer_range=0.01,
        **{**_SMALL, "hidden_size": 128},
    )


@architecture("transformers")
def vit_hf() -> nn.Module:
    return pretrained("ViTForImageClassification", "ViTConfig", image_size=64, patch_size=8, num_labels=20, **_SMALL)


@architecture("transformers")
def whisper() -> nn.Module:
    return pretrained(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        vocab_size=400,
        d_model=96,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        max_source_positions=60,
        max_target_positions=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )


@architecture("transformers")
def clip() -> nn.Module:
    part = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 384}
    return pretrained(
        "CLIPModel",
        "CLIPConfig",
        projection_dim=64,
        text_config={**part, "vocab_size": 400, "max_position_embeddings": 48},
        vision_config={**part, "image_size": 64, "patch_size": 8},
    )


@architecture("transformers")
def wav2vec2() -> nn.Module:
    return pretrained(
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        vocab_size=40,
        conv_dim=(64, 64, 64),
        conv_kernel=(10, 3, 3),
        conv_stride=(5, 2, 2),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **_SMALL,
    )


@architecture("transformers")
def deberta_v2() -> nn.Module:
    return pretrained(
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        vocab_size=500,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=32,
        **_SMALL,
    )
