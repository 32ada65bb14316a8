"""Start values that let a small decoder learn matching at once.

A plain random start does not learn from real text within an hour of two cores. Here tokens start with vectors factorised from
their co-occurrence, and a few heads start as matchers, so that training begins near term matching and refines it:

- layer 0: one head tells document tokens from query tokens, one copies the previous token;
- layer 1: one head finds a like token in the query, one the same token behind the same predecessor; the MLP multiplies the
  find with the token's rarity;
- last layer: the heads average the vectors of the query's and the document's rarer tokens, and the finds; the MLP multiplies the
  two averages into the direction that the "Yes" row reads.

Every other weight starts small and random. All of them are trained.

Residual directions: 0 constant, 1 rarity, 2 end of message, 3 document side, 4 like token found, 5 token pair found,
6 salience, 7 score; then co-occurrence vectors, then random content.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model import Config, Reranker

CONSTANT, RARITY, END, SIDE, FOUND, FOUND_PAIR, SALIENCE, SCORE, CONTENT = range(9)
MEANING = 128
SCALE = 0.1
FIRST_SLOW = 12
SUBJECT, QUERY_SUBJECT = 120, CONTENT + MEANING
BONUS, PAIR_BONUS, THRESHOLD, PAIR_WEIGHT = 0.45, 0.2, 1.0, 3.0
RARITY_WEIGHT, SUBJECT_WEIGHT, SUBJECT_GAIN, SALIENCE_GAIN = 0.5, 1.0, 0.03, 0.7


def cooccurrence_vectors(documents: list[list[int]], vocabulary: int, seed: int) -> Tensor:
    """Factorises the tokens' positive pointwise mutual information within documents, `[vocabulary, MEANING]`."""
    torch.manual_seed(seed)
    together = torch.zeros(vocabulary, vocabulary)
    for start in range(0, len(documents), 4000):
        part = documents[start:start + 4000]
        present = torch.zeros(len(part), vocabulary)
        for row, ids in enumerate(part):
            unique = list(set(ids))
            present[row, unique] = len(unique) ** -0.5
        present = present.to(torch.bfloat16)
        together += (present.T @ present).float()
    together.fill_diagonal_(0)
    marginal = together.sum(0).clamp_min(1e-3)
    smooth = marginal**0.75 / (marginal**0.75).sum()
    information = torch.log((together / marginal[:, None] / smooth).clamp_min(1e-6)).clamp_min(0)
    u, s, _ = torch.svd_lowrank((information + information.T) / 2, MEANING + 16, niter=2)
    return u[:, :MEANING] * s[:MEANING].sqrt()


def slow_rows(size: int) -> list[int]:
    """Lists the rows of a head that rotary positions hardly turn."""
    half = size // 2
    return [*range(FIRST_SLOW, half), *range(half + FIRST_SLOW, size)]


def initialise(model: Reranker, rarity: Tensor, meaning: Tensor, end_of_message: int, newline: int, yes: int, seed: int) -> None:
    """Sets all weights.

    - `rarity`: `[vocabulary]`, 0 for the commonest to about 1 for rare tokens
    - `meaning`: `[vocabulary, MEANING]`, any scale; a zero row becomes random
    """
    c: Config = model.config
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> Tensor:
        return torch.randn(*shape, generator=generator) * std

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.5 if "q_norm" in name or "k_norm" in name else 1.0)
            elif "o_proj" in name or "down_proj" in name:
                parameter.copy_(normal(*parameter.shape, std=0.2 * SCALE / math.sqrt(parameter.shape[1])))
                parameter[:CONTENT] = 0.0
            else:
                parameter.copy_(normal(*parameter.shape, std=1.0 / math.sqrt(parameter.shape[1])))
        table = model.embed_tokens.weight
        table.copy_(normal(*table.shape, std=SCALE))
        table[:, :CONTENT] = 0.0
        length = meaning.norm(dim=1, keepdim=True)
        known = length[:, 0] > 1e-3
        table[known, CONTENT:CONTENT + MEANING] = (meaning / length.clamp_min(1e-6))[known] * math.sqrt(MEANING) * SCALE
        table[:, CONSTANT] = 2 * SCALE
        table[:, RARITY] = 3 * SCALE * rarity
        table[end_of_message, END] = 12 * SCALE
        table[yes, CONTENT:] = 0.0
        table[yes, SCORE] = 1.0
        table[newline, CONTENT:] *= 0.1
        basis, _ = torch.linalg.qr(normal(c.hidden_size - CONTENT, c.hidden_size - CONTENT, std=1.0))
        content = torch.zeros(c.hidden_size - CONTENT, c.hidden_size)
        content[:, CONTENT:] = basis.T
        slow = slow_rows(c.head_dim)
        _layer_0(model, content[:64], content[64:128], slow)
        _layer_1(model, content[128:192], content[64:128], slow)
        _last_layer(model, slow)


def _weights(model: Reranker, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    attention = model.layers[index].self_attn
    return attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight, attention.o_proj.weight


def _layer_0(model: Reranker, before_in: Tensor, before_out: Tensor, slow: list[int]) -> None:
    """Head 0 marks what stands behind the query's end; head 1 copies the previous token's content."""
    d, half = model.config.head_dim, model.config.head_dim // 2
    q, k, v, o = _weights(model, 0)
    q[:2 * d] = k[:d] = v[:d] = 0.0
    o[:, :2 * d] = 0.0
    q[slow, CONSTANT] = 1.0
    k[slow, END] = 1.0
    for i in range(8):
        angle = model.config.rope_theta ** (-i / half)
        k[i, CONSTANT] = 0.3
        q[d + i, CONSTANT] = math.cos(angle)
        q[d + half + i, CONSTANT] = -math.sin(angle)
    v[0, END] = 1.0 / 12
    v[1:d] = before_in[1:d]
    o[SIDE, 0] = 3 * SCALE
    o[:, d + 1:2 * d] = before_out[1:d].T * SCALE


def _layer_1(model: Reranker, word: Tensor, before_out: Tensor, slow: list[int]) -> None:
    """Head 0 finds a like token in the query, head 2 the same pair of tokens; the MLP weighs the finds by rarity.

    A token attends to itself unless a query token is alike: keys of the query side get a bonus, those of the document a malus.
    """
    layer = model.layers[1]
    d = model.config.head_dim
    q, k, v, o = _weights(model, 1)
    half = len(slow) // 2 - 1
    axes = torch.eye(model.config.hidden_size)[CONTENT:]
    rows = (axes[:2 * half], torch.cat([word[:half], before_out[1:half + 1]]))
    for group, bonus in enumerate((BONUS, PAIR_BONUS)):
        find, here = [2 * group * d + r for r in slow], [group * d + r for r in slow]
        k[group * d:(group + 1) * d] = q[2 * group * d:(2 * group + 1) * d] = 0.0
        q[find[:2 * half]] = k[here[:2 * half]] = rows[group]
        strength = bonus * math.sqrt(half)
        q[find[2 * half:], CONSTANT] = strength / 2
        k[here[2 * half:], CONSTANT] = strength / 2
        k[here[2 * half:], SIDE] = -strength * 0.8
        v[group * d] = 0.0
        v[group * d, CONSTANT] = 0.5
        v[group * d, SIDE] = -0.4
        o[:, 2 * group * d:(2 * group + 1) * d] = 0.0
        o[(FOUND, FOUND_PAIR)[group], 2 * group * d] = 4 * SCALE
    gate, up, down = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight
    for unit, (feature, weight) in enumerate(((FOUND, 1.0), (FOUND_PAIR, PAIR_WEIGHT))):
        gate[unit] = up[unit] = 0.0
        gate[unit, feature] = 3.0
        gate[unit, CONSTANT] = -THRESHOLD
        up[unit, RARITY] = 1.0
        down[:, unit] = 0.0
        down[SALIENCE, unit] = 0.3 * SCALE * weight


def _last_layer(model: Reranker, slow: list[int]) -> None:
    """Heads 0 and 2 average the rarer tokens of the query, heads 1 and 3 those of the document; the MLP multiplies the averages.

    `silu(x) y + silu(-x) (-y) = x y`: two units a dimension make an exact product.
    """
    layer = model.layers[-1]
    d, width = model.config.head_dim, SUBJECT // 2
    q, k, v, o = _weights(model, len(model.layers) - 1)
    slowest = slow[len(slow) // 2 - 3:len(slow) // 2]
    q[:] = k[:] = 0.0
    o[:] = 0.0
    for group in range(2):
        k[group * d + slowest[0], SIDE] = 1.0
        k[group * d + slowest[0], CONSTANT] = -0.6
        k[group * d + slowest[1], RARITY] = RARITY_WEIGHT
        k[group * d + slowest[2], CONSTANT] = 1.5
        v[group * d:group * d + width] = torch.eye(model.config.hidden_size)[CONTENT + group * width:CONTENT + (group + 1) * width]
        v[group * d + width:group * d + width + 2] = 0.0
        v[group * d + width, SALIENCE] = 1.0
        for head, sign, target in ((2 * group, -1.0, QUERY_SUBJECT), (2 * group + 1, 1.0, CONTENT)):
            q[head * d + slowest[0], CONSTANT] = sign
            q[head * d + slowest[1], CONSTANT] = 1.0
            for i in range(width):
                o[target + group * width + i, head * d + i] = SUBJECT_WEIGHT
    o[SCORE, d + width] = SALIENCE_GAIN
    gate, up, down = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight
    gate[:2 * SUBJECT] = up[:2 * SUBJECT] = 0.0
    down[:, :2 * SUBJECT] = 0.0
    for i in range(SUBJECT):
        for unit, sign in ((2 * i, 1.0), (2 * i + 1, -1.0)):
            gate[unit, QUERY_SUBJECT + i] = sign
            up[unit, CONTENT + i] = sign
            down[SCORE, unit] = SUBJECT_GAIN
