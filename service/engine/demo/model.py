"""A Qwen3 decoder in torch that scores documents against a query, and its initialisation.

Owns: the architecture (equal to transformers' `Qwen3ForCausalLM`), the start values, the safetensors file.

Tensor legend: `B` queries, `P` tokens of a query prefix, `R` documents of a chunk, `S` tokens of a document, `D` head size.

Data flow: prefix ids `[B, P]` and chunks of document ids `[R, S]` -> logits of "Yes" at each document's last token `[R]`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MASKED = -1e9


@dataclass(frozen=True)
class Config:
    """The numbers of the architecture, named as in `config.json`."""

    vocab_size: int = 8192
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    max_position_embeddings: int = 4096

    def save(self, path: Path, end_of_text: int) -> None:
        """Writes `config.json` as the transformers library does."""
        fixed = {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": end_of_text, "eos_token_id": end_of_text, "hidden_act": "silu", "initializer_range": 0.02,
            "max_window_layers": self.num_hidden_layers, "rope_scaling": None, "sliding_window": None,
            "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False,
        }
        path.write_text(json.dumps(fixed | asdict(self), indent=2, sort_keys=True) + "\n")


class RmsNorm(nn.Module):
    """Divides by the root mean square and scales."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps)


@dataclass
class Rotation:
    """Cosine and sine of the rotary angles, `[rows, 1, tokens, D]`."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, config: Config) -> Rotation:
        half = config.head_dim // 2
        frequency = config.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = positions[..., None].float() * frequency
        angle = torch.cat([angle, angle], dim=-1)[:, None]
        return cls(angle.cos(), angle.sin())

    def __call__(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-second, first], dim=-1) * self.sin


@dataclass(frozen=True)
class Chunk:
    """Documents of like length: `owner` is each row's query, `ids` `[R, S]` end with the frame's suffix, `length` `[R]`."""

    owner: Tensor
    ids: Tensor
    length: Tensor


@dataclass(frozen=True)
class DocumentFrame:
    """Rotations and masks of a chunk behind its prefixes; the `last` ones are those of each row's last token."""

    turn: Rotation
    mask: Tensor
    turn_last: Rotation
    mask_last: Tensor

    @classmethod
    def of(cls, chunk: Chunk, prefix_len: Tensor, p: int, config: Config) -> DocumentFrame:
        rows, s = chunk.ids.shape
        start = prefix_len[chunk.owner]
        padded = torch.where(torch.arange(p) < start[:, None], 0.0, MASKED)[:, None, None, None]
        causal = torch.full((s, s), MASKED).triu(1)
        beyond = torch.where(torch.arange(s) < chunk.length[:, None], 0.0, MASKED)[:, None, None, None]
        return cls(
            Rotation.at(start[:, None] + torch.arange(s), config),
            torch.cat([padded.expand(rows, 1, 1, s, p), causal.expand(rows, 1, 1, s, s)], dim=-1),
            Rotation.at((start + chunk.length - 1)[:, None], config),
            torch.cat([padded, beyond], dim=-1),
        )


class Attention(nn.Module):
    """Grouped attention with normalised queries and keys."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.groups, self.size = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, self.groups * self.size, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, self.groups * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, c.hidden_size, bias=False)
        self.q_norm = RmsNorm(self.size, c.rms_norm_eps)
        self.k_norm = RmsNorm(self.size, c.rms_norm_eps)

    def queries(self, x: Tensor, rotation: Rotation) -> Tensor:
        return rotation(self.q_norm(self.q_proj(x).unflatten(-1, (self.heads, self.size))).transpose(1, 2))

    def keys_values(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        keys = rotation(self.k_norm(self.k_proj(x).unflatten(-1, (self.groups, self.size))).transpose(1, 2))
        return keys, self.v_proj(x).unflatten(-1, (self.groups, self.size)).transpose(1, 2)

    def behind(self, kx: Tensor, vx: Tensor, owner: Tensor, y: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """Puts the documents' keys and values behind those of their queries."""
        ky, vy = self.keys_values(y, rotation)
        return torch.cat([kx[owner].to(ky.dtype), ky], dim=2), torch.cat([vx[owner], vy], dim=2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Attends in groups; `mask` is added to the scaled products, `[rows, 1, 1, queries, keys]`."""
        q = q.unflatten(1, (self.groups, -1))
        weights = torch.matmul(q * self.size**-0.5, k.unsqueeze(2).transpose(-1, -2))
        weights = torch.softmax(weights.float() + mask, dim=-1).to(v.dtype)
        out = torch.matmul(weights, v.unsqueeze(2)).flatten(1, 2)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer, run on query prefixes and on the documents behind them."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.self_attn = Attention(c)
        self.mlp = Mlp(c)
        self.input_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class Reranker(nn.Module):
    """The decoder with its tied head cut down to the row of "Yes"."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, prefix: Tensor, prefix_len: Tensor, chunks: list[Chunk], yes: int) -> list[Tensor]:
        """Returns each chunk's logits `[R]`; ids are padded on the right."""
        x = self.embed_tokens(prefix)
        p = prefix.shape[1]
        causal = torch.full((p, p), MASKED).triu(1)[None, None, None]
        turn = Rotation.at(torch.arange(p)[None], self.config)
        ys = [self.embed_tokens(chunk.ids) for chunk in chunks]
        frames = [DocumentFrame.of(chunk, prefix_len, p, self.config) for chunk in chunks]
        for layer in self.layers[:-1]:
            attention: Attention = layer.self_attn
            hx = layer.input_layernorm(x)
            kx, vx = attention.keys_values(hx, turn)
            x = layer.finish(x, attention.attend(attention.queries(hx, turn), kx, vx, causal))
            for i, (chunk, frame) in enumerate(zip(chunks, frames)):
                hy = layer.input_layernorm(ys[i])
                k, v = attention.behind(kx, vx, chunk.owner, hy, frame.turn)
                ys[i] = layer.finish(ys[i], attention.attend(attention.queries(hy, frame.turn), k, v, frame.mask))
        layer, attention = self.layers[-1], self.layers[-1].self_attn
        kx, vx = attention.keys_values(layer.input_layernorm(x), turn)
        logits = []
        for chunk, frame, y in zip(chunks, frames, ys):
            hy = layer.input_layernorm(y)
            k, v = attention.behind(kx, vx, chunk.owner, hy, frame.turn)
            at = torch.arange(len(y))
            hy, y = hy[at, chunk.length - 1][:, None], y[at, chunk.length - 1][:, None]
            y = layer.finish(y, attention.attend(attention.queries(hy, frame.turn_last), k, v, frame.mask_last))
            logits.append(self.norm(y)[:, 0].float() @ self.embed_tokens.weight[yes].float())
        return logits

    def save(self, path: Path) -> None:
        """Writes the weights in bf16 under the names of the transformers library, all at once."""
        tensors = {f"model.{k}": v.detach().to(torch.bfloat16).contiguous() for k, v in self.state_dict().items()}
        partial = path.with_suffix(".partial")
        save_file(tensors, str(partial), metadata={"format": "pt"})
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path, config: Config) -> Reranker:
        """Reads the bf16 weights into an f32 model."""
        model = cls(config)
        model.load_state_dict({k.removeprefix("model."): v.float() for k, v in load_file(str(path)).items()})
        return model
