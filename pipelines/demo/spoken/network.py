"""The micro Whisper's shape, and its forward pass as training needs it: transformers' modules and parameters, with the attention
of the taught heads and the encoder's phone scores beside the logits. `same_as_transformers` holds it against the library's own.
"""

import math

import torch
import torch.nn.functional as F
from transformers import WhisperConfig, WhisperForConditionalGeneration

SECONDS = 6
POSITIONS = SECONDS * 50
FRAMES = SECONDS * 100
MELS = 40
TARGETS = 128
SHAPE = dict(num_mel_bins=MELS, d_model=128, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=512, decoder_layers=3,
             decoder_attention_heads=4, decoder_ffn_dim=256, max_source_positions=POSITIONS, max_target_positions=TARGETS,
             activation_function="gelu", scale_embedding=False)
# Heads of the decoder's cross-attention that are taught where each token is said: [layer, head].
TAUGHT = [(1, 0), (2, 0)]


def build(vocabulary: int, special: dict[str, int]) -> WhisperForConditionalGeneration:
    end = special["<|endoftext|>"]
    config = WhisperConfig(vocab_size=vocabulary, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, bos_token_id=end,
                           eos_token_id=end, pad_token_id=end, decoder_start_token_id=special["<|startoftranscript|>"], **SHAPE)
    model = WhisperForConditionalGeneration(config)
    width = config.d_model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and "embed_positions" not in name:
                fan = parameter[0].numel()
                torch.nn.init.normal_(parameter, std=(1 / math.sqrt(width)) if "embed_tokens" in name else 0.8 / math.sqrt(fan))
            elif name.endswith("decoder.embed_positions.weight"):
                torch.nn.init.normal_(parameter, std=0.02)
        # Deep residual streams start near the identity.
        for stack in (model.model.encoder.layers, model.model.decoder.layers):
            for layer in stack:
                layer.fc2.weight.mul_(0.4)
                layer.self_attn.out_proj.weight.mul_(0.4)
                if hasattr(layer, "encoder_attn"):
                    layer.encoder_attn.out_proj.weight.mul_(0.4)
    return model


class Trainer(torch.nn.Module):
    """A Whisper and the head for phones, which is thrown away after training."""

    def __init__(self, model: WhisperForConditionalGeneration, phones: int):
        super().__init__()
        self.model = model
        self.phones = torch.nn.Linear(model.config.d_model, phones)

    def forward(self, features: torch.Tensor, tokens: torch.Tensor):
        """Logits [batch, tokens, vocabulary], attention logits of the taught heads, phone scores [batch, positions, phones].

        Features may be of fewer frames than a window has: what is short is learnt sooner. Padding of tokens is on the right, so the
        causal mask alone keeps it out of sight."""
        heard = encode(self.model.model.encoder, features)
        logits, taught = decode(self.model, tokens, heard)
        return logits, taught, self.phones(heard)


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    batch, length, width = x.shape
    return x.view(batch, length, count, width // count).transpose(1, 2)


def attend(module, x: torch.Tensor, over: torch.Tensor, causal=False, taught=()):
    count = module.num_heads
    query, key, value = (heads(part, count) for part in (module.q_proj(x), module.k_proj(over), module.v_proj(over)))
    query = query / math.sqrt(query.shape[-1])
    # Written out and not fused: in bf16 on these cores that takes half the time.
    with torch.autocast("cpu", enabled=False):
        weights = query @ key.transpose(2, 3)
        scores = [weights[:, head] for head in taught]
        if causal:
            weights = weights + torch.full(weights.shape[-2:], -1e4, dtype=weights.dtype).triu(1)
        out = weights.softmax(-1) @ value
    return module.out_proj(out.transpose(1, 2).flatten(2)), scores


def feed(layer, x: torch.Tensor) -> torch.Tensor:
    return x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))


def encode(encoder, features: torch.Tensor) -> torch.Tensor:
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features)))).transpose(1, 2)
    x = x + encoder.embed_positions.weight[:x.shape[1]]
    for layer in encoder.layers:
        normed = layer.self_attn_layer_norm(x)
        x = feed(layer, x + attend(layer.self_attn, normed, normed)[0])
    return encoder.layer_norm(x)


def decode(model, tokens: torch.Tensor, heard: torch.Tensor):
    decoder = model.model.decoder
    x = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[:tokens.shape[1]]
    taught = []
    for number, layer in enumerate(decoder.layers):
        normed = layer.self_attn_layer_norm(x)
        x = x + attend(layer.self_attn, normed, normed, causal=True)[0]
        out, scores = attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), heard,
                             taught=[head for at, head in TAUGHT if at == number])
        taught += scores
        x = feed(layer, x + out)
    return model.proj_out(decoder.layer_norm(x)), taught


@torch.no_grad()
def same_as_transformers(model: WhisperForConditionalGeneration) -> float:
    """The largest difference between these logits and the library's, on random input."""
    features, tokens = torch.randn(2, MELS, FRAMES), torch.randint(0, model.config.vocab_size, (2, 9))
    ours = decode(model, tokens, encode(model.model.encoder, features))[0]
    theirs = model.eval()(input_features=features, decoder_input_ids=tokens).logits
    return (ours - theirs).abs().max().item()
