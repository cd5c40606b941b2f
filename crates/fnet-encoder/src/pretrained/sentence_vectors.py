"""By which sentence-transformers opens a folder of vectors of texts.

    model = SentenceTransformer(DIR, trust_remote_code=True)

Texts that are longer than the model are read in windows of equal length, as in training.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer

from .modeling_fnet_mixing import MixingConfig, MixingModel

try:
    from sentence_transformers.base.modules import InputModule as Module
except ImportError:  # before version 6
    from torch.nn import Module


class SentenceVectors(Module):
    save_in_root = True

    def __init__(self, folder):
        super().__init__()
        self.folder, self.tokenizer = str(folder), AutoTokenizer.from_pretrained(folder)
        config = MixingConfig.from_pretrained(folder)
        self.model = MixingModel.from_pretrained(folder, config=config, dtype=torch.float32)
        self.max_seq_length = min(self.tokenizer.model_max_length, config.max_position_embeddings)
        self.fixed_length = None
        if getattr(config, "padding", "own") == "fixed":
            self.fixed_length = getattr(config, "padding_length", None) or config.max_position_embeddings
        texts = Path(folder) / "sentence_bert_config.json"  # of the folder that it was made from
        told = json.loads(texts.read_text()) if texts.exists() else {}
        self.lowers = bool(told.get("do_lower_case"))
        self.max_seq_length = min(self.max_seq_length, told.get("max_seq_length") or self.max_seq_length)
        ends = {"first", "last"}
        self.reads_windows = not texts.exists() and not ends.issuperset(self.model.sentence.pools)

    def windows(self, text):
        """The rows of token ids that a text is read in, and their segments."""
        room = max(1, self.max_seq_length - 2)
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        count = max(1, -(-len(ids) // room)) if self.reads_windows else 1
        parts = [ids[len(ids) * i // count : len(ids) * (i + 1) // count] for i in range(count)]
        is_left = self.tokenizer.truncation_side == "left"
        parts = [part[-room:] if is_left else part[:room] for part in parts]
        framed = [self.tokenizer.cls_token_id, self.tokenizer.sep_token_id]
        return [[framed[0], *part, framed[1]] for part in parts]

    def preprocess(self, inputs, prompt=None, **kwargs):
        texts = [(prompt or "") + text for text in inputs]
        texts = [text.lower() for text in texts] if self.lowers else texts
        texts = [self.windows(text) for text in texts]
        rows, length = max(map(len, texts)), self.fixed_length or max(len(row) for text in texts for row in text)
        ids = torch.full((len(texts), rows, length), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, text in enumerate(texts):
            for j, row in enumerate(text):
                ids[i, j, : len(row)] = torch.tensor(row)
                mask[i, j, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def tokenize(self, texts, **kwargs):
        return self.preprocess(texts, **kwargs)

    def forward(self, features, **kwargs):
        features["sentence_embedding"] = self.model.vectors(features["input_ids"], features["attention_mask"])
        return features

    def get_embedding_dimension(self):
        return self.model.sentence.width

    get_sentence_embedding_dimension = get_word_embedding_dimension = get_embedding_dimension

    def save(self, output_path, *args, **kwargs):
        self.model.save_pretrained(output_path)
        self.tokenizer.save_pretrained(output_path)
        for name in ["modeling_fnet_mixing.py", "sentence_vectors.py"]:
            if not (Path(output_path) / name).exists():
                shutil.copy(Path(self.folder) / name, output_path)

    @classmethod
    def load(cls, path, *args, **kwargs):
        return cls(path)
