"""BLIP's contrastive embeddings, from a folder in the format of transformers.

Image and text each go through a tower of their own, and the output at its first token is
projected. The head that looks at both together is not used. Source: BLIP (arXiv 2201.12086)
section 3.2. A BLIP gives embeddings only: methods that take CLIP's towers apart do not work on it.
"""

from pathlib import Path

import torch

from lib.encoders import formats
from lib.encoders.towers import Parts

FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
CONTEXT = 35  # tokens of a caption, as in BLIP's own retrieval
SCALE = 1 / 0.07  # at the start of its training; the published weights do not hold the learned one


class Towers(torch.nn.Module):
    """The two encoders under the names that a `Model` calls: pixels or tokens -> (n, 256)."""

    def __init__(self, blip: torch.nn.Module):
        super().__init__()
        self.visual, self.image_end = blip.vision_model, blip.vision_proj
        self.reader, self.text_end = blip.text_encoder, blip.text_proj
        self.padding = blip.config.text_config.pad_token_id

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.image_end(self.visual(pixel_values=pixels).last_hidden_state[:, 0])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = (tokens != self.padding).long()
        seen = self.reader(input_ids=tokens, attention_mask=mask).last_hidden_state
        return self.text_end(seen[:, 0])


def build(name: str, folder: Path) -> Parts:
    """The parts of a `Model`, from FILES and WEIGHTS.

    Raises: ValueError if they are damaged, do not fit each other, or are another model's.
    """
    import open_clip
    from transformers import AutoTokenizer, BlipForImageTextRetrieval

    kind = formats.read(folder, FILES[0]).get("model_type")
    if kind != "blip":
        raise ValueError(f"{name} is of type {kind!r} by its {FILES[0]}, and not a BLIP.")
    try:
        blip, about = BlipForImageTextRetrieval.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
        words = AutoTokenizer.from_pretrained(folder)
    except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{name}: its files are damaged or do not fit ({reason}).") from error
    if missing := about["missing_keys"]:
        raise ValueError(f"{name}: {WEIGHTS} has no {formats.some(missing)}.")
    size = blip.config.vision_config.image_size
    settings = {"size": size} | formats.preprocessing(folder, size)
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**settings), is_train=False
    )

    def tokenizer(texts: list[str]) -> torch.Tensor:
        made = words(texts, padding="max_length", truncation=True, max_length=CONTEXT)
        return torch.tensor(made["input_ids"])

    return Parts(Towers(blip), preprocess, tokenizer)
