"""Makes the stored examples that tests/parity.rs compares with: small FNet models of Transformers with random
weights, their inputs, hidden states, logits, losses and gradients, and the losses of five AdamW steps.

usage: pip install torch transformers safetensors numpy sentence-transformers; python tests/parity/make_examples.py [NAME ..]
Each example (or those named) is a folder: config.json and model.safetensors as save_pretrained writes them, and example.safetensors.
"""
import json
import math
import pathlib
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, FNetConfig, FNetForMaskedLM, FNetForPreTraining, FNetForSequenceClassification, FNetForTokenClassification

HERE = pathlib.Path(__file__).parent / "examples"
PAD = 3


def batch(config, lengths, seq_len):
    ids = torch.full((len(lengths), seq_len), PAD)
    segments = torch.zeros(len(lengths), seq_len, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(4, config.vocab_size, (length,))
        segments[row, length // 2 : length] = 1
    return ids, segments


def make(name, cls, seq_len, lengths, labels, mixers=None, **settings):
    """With `mixers`, a list of name and class, each layer's Fourier mixing is replaced."""
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    torch.manual_seed(7)
    config_class = BertConfig if cls is BertForMaskedLM else FNetConfig
    config = config_class(
        hidden_dropout_prob=0.0, max_position_embeddings=seq_len + 3, type_vocab_size=3, initializer_range=0.2, **settings
    )
    model = cls(config).train()
    for i, (_, mixer) in enumerate(mixers or []):
        layer = model.fnet.encoder.layer[i]
        layer.mixing = mixer(config, i)
        layer.fourier.self = Call(layer.mixing)
    with torch.no_grad():  # norms and biases away from one and zero, so that a missing one shows
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    for parameter in model.parameters():  # of xielu: their gradients are no better than their bfloat16
        parameter.requires_grad_(parameter.dtype == torch.float32)
    ids, segments = batch(config, lengths, seq_len)
    targets = {"labels": labels(ids, lengths, config)}
    if cls is FNetForPreTraining:
        targets["next_sentence_label"] = torch.arange(len(lengths)) % 2
    folder = HERE / name
    model.save_pretrained(folder)
    if mixers:
        with open(folder / "config.json") as file:
            written = json.load(file)
        written["mixers"] = [name for name, _ in mixers]
        with open(folder / "config.json", "w") as file:
            json.dump(written, file, indent=2)

    run = lambda: model(input_ids=ids, token_type_ids=segments, **targets, output_hidden_states=True)
    out = run()
    out.loss.backward()
    example = {
        "ids": ids.int(), "segments": segments.int(),
        "loss": out.loss.detach().reshape(1), "hidden": out.hidden_states[-1].detach(),
    }
    for n, t in targets.items():
        example[n] = t.float() if t.is_floating_point() else t.int()
    if cls is FNetForPreTraining:
        example["logits"] = out.prediction_logits.detach()
        example["next_sentence_logits"] = out.seq_relationship_logits.detach()
    else:
        example["logits"] = out.logits.detach()
    names = {id(p): n for n, p in model.named_parameters()}
    for n, p in model.named_parameters():
        if p.grad is not None:
            example["gradient." + n] = p.grad.clone()

    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=1e-2
    )
    losses = []
    for _ in range(5):
        optimizer.zero_grad(set_to_none=True)
        loss = run().loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    example["losses"] = torch.stack(losses + [run().loss.detach()])
    save_file({k: v.contiguous() for k, v in example.items()}, folder / "example.safetensors")
    print(name, len(names), "tensors, loss", float(example["loss"]))


class Call(torch.nn.Module):
    """Mixing in the place of FNet's own; keeps no second name for its weights."""

    def __init__(self, mixing):
        super().__init__()
        self.run = [mixing]

    def forward(self, x):
        return (self.run[0](x),)


class Plain(torch.nn.Module):
    """A mixer that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Matrix(torch.nn.Module):
    def __init__(self, size, trained):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(size, size) / math.sqrt(size), requires_grad=trained)


class LinearMixing(torch.nn.Module):
    trained = True

    def __init__(self, config, layer):
        super().__init__()
        self.sequence = Matrix(config.max_position_embeddings, self.trained)
        self.hidden = Matrix(config.hidden_size, self.trained)

    def forward(self, x):
        n = x.shape[1]
        return self.sequence.weight[:n, :n] @ (x @ self.hidden.weight.T)


class RandomMixing(LinearMixing):
    trained = False


class MlpMixing(torch.nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        inside = (config.hidden_size + 1) // 2
        self.add_module("in", torch.nn.Linear(config.max_position_embeddings, inside))
        self.out = torch.nn.Linear(inside, config.max_position_embeddings)

    def forward(self, x):
        n, into = x.shape[1], getattr(self, "in")
        inner = torch.nn.functional.linear(x.transpose(1, 2), into.weight[:, :n], into.bias)
        active = torch.nn.functional.gelu(inner, approximate="tanh")
        return torch.nn.functional.linear(active, self.out.weight[:n], self.out.bias[:n]).transpose(1, 2)


class ReservoirMixing(torch.nn.Module):
    """The weights are the program's own: cargo test --test parity -- --ignored writes them."""

    def __init__(self, config, layer):
        super().__init__()
        stored = load_file(HERE / "reservoir" / "weights.safetensors")
        self.weights = [[stored[f"{part}.{layer}"]] for part in ["input", "forwards", "backwards"]]

    def forward(self, x):
        leak, (input_weight, forwards, backwards) = 0.5, [w[0] for w in self.weights]
        share, half = x @ input_weight.T, forwards.shape[0]
        both = []
        for weight, part, order in [
            (forwards, share[..., :half], range(x.shape[1])),
            (backwards, share[..., half:], reversed(range(x.shape[1]))),
        ]:
            state, states = torch.zeros(x.shape[0], weight.shape[0]), {}
            for t in order:
                state = (1 - leak) * state + leak * torch.tanh(part[:, t] + state @ weight.T)
                states[t] = state
            both.append(torch.stack([states[t] for t in range(x.shape[1])], dim=1))
        return torch.cat(both, dim=-1)


def make_similarity():
    """Losses over vectors of texts, and a folder of sentence-transformers with what it gives."""
    if sys.argv[1:] and "similarity" not in sys.argv[1:]:
        return
    torch.manual_seed(11)
    width, scale, fold = 6, 20.0, torch.nn.functional.cosine_similarity
    rows = torch.randn(10, width, requires_grad=True)
    scores = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.3])
    cosines = fold(rows[0::2], rows[1::2])
    wrong = scale * (cosines[None, :] - cosines[:, None])[scores[:, None] > scores[None, :]]
    losses = {
        "cosent": torch.logsumexp(torch.cat([torch.zeros(1), wrong]), 0),
        "cosine": torch.nn.functional.mse_loss(cosines, scores),
    }
    stored = {"width": width, "vectors": rows.tolist(), "scores": scores.tolist()}
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, rows, retain_graph=True)
        stored[name] = {"loss": loss.item(), "gradient": gradient.tolist()}
    anchors, candidates = (torch.randn(n, width, requires_grad=True) for n in (4, 8))
    logits = scale * fold(anchors[:, None], candidates[None], dim=-1)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(4))
    loss.backward()
    gradients = {"anchors": anchors.grad.tolist(), "candidates": candidates.grad.tolist()}
    stored |= {"anchors": anchors.tolist(), "candidates": candidates.tolist()}
    stored["contrastive"] = {"loss": loss.item(), **gradients}
    folder = HERE / "similarity"
    folder.mkdir(exist_ok=True)
    (folder / "example.json").write_text(json.dumps(stored) + "\n")

    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "the", "red", "house", "is", "old"]
    with tempfile.TemporaryDirectory() as place:
        vocabulary = pathlib.Path(place) / "vocab.txt"
        vocabulary.write_text("\n".join(words))
        shape = dict(num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=12)
        BertModel(BertConfig(vocab_size=len(words), hidden_size=16, initializer_range=0.2, **shape)).save_pretrained(place)
        BertTokenizerFast(str(vocabulary)).save_pretrained(place)
        encoder = models.Transformer(place, max_seq_length=10)
    modes = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    parts = [encoder, models.Pooling(16, pooling_mode=modes), models.Dense(96, 8), models.Normalize()]
    model = SentenceTransformer(modules=parts, prompts={"query": "the "}).eval()
    folder = HERE / "sentence_transformers"
    model.save(str(folder), create_model_card=False)
    texts = ["the red house", "a", "", "house is old is old is old the red house is old the", "the red house"]
    vectors = torch.cat([torch.tensor(model.encode(texts[:4])), torch.tensor(model.encode(texts[4:], prompt_name="query"))])
    ids = [model.tokenizer(text, truncation=True, max_length=10)["input_ids"] for text in [*texts[:4], "the the red house"]]
    stored = {"texts": texts[:4], "prompted": texts[4], "tokens": ids, "vectors": vectors.tolist()}
    (folder / "example.json").write_text(json.dumps(stored) + "\n")


def make_vectors():
    """Sequences of vectors, projected where tokens have words, with several labels at each position."""
    name, width, labels = "vectors", 6, 3
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    torch.manual_seed(7)
    config = FNetConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=2, intermediate_size=24, hidden_dropout_prob=0.0,
        max_position_embeddings=9, type_vocab_size=1, initializer_range=0.2, num_labels=labels,
    )
    model = FNetForTokenClassification(config).train()
    projection = torch.nn.Linear(width, config.hidden_size)
    vectors = torch.randn(2, 7, width)
    wanted = (torch.rand(2, 7, labels) > 0.5).float()
    logits = model(inputs_embeds=projection(vectors)).logits
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
    loss.backward()
    own = {"weight": projection.weight, "bias": projection.bias}
    own = {f"fnet.embeddings.input_projection.{n}": p for n, p in own.items()}
    folder = HERE / name
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors") | {n: p.detach() for n, p in own.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with open(folder / "config.json") as file:
        written = json.load(file)
    written["input_width"] = width
    with open(folder / "config.json", "w") as file:
        json.dump(written, file, indent=2)
    example = {"vectors": vectors, "labels": wanted, "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for n, p in dict(model.named_parameters(), **own).items():
        if p.grad is not None:
            example["gradient." + n] = p.grad.clone()
    save_file({k: v.contiguous() for k, v in example.items()}, folder / "example.safetensors")


def plain(function):
    return lambda config, layer: Plain(function)


def shifted(x):
    """By a loop over the tokens, so that it is not the same mistake twice."""
    y, half = torch.zeros_like(x), x.shape[2] // 2
    for t in range(x.shape[1]):
        if t + 1 < x.shape[1]:
            y[:, t, :half] = x[:, t + 1, x.shape[2] - half :]
        if t > 0:
            y[:, t, x.shape[2] - half :] = x[:, t - 1, :half]
    return y


MIXERS = {
    "fourier": plain(lambda x: torch.fft.fft2(x).real),
    "fourier-seq": plain(lambda x: torch.fft.fft(x, dim=1).real),
    "fourier-hidden": plain(lambda x: torch.fft.fft(x, dim=2).real),
    "hartley": plain(lambda x: torch.fft.fft2(x).real - torch.fft.fft2(x).imag),
    "linear": LinearMixing,
    "random": RandomMixing,
    "mlp": MlpMixing,
    "reservoir": ReservoirMixing,
    "shift": plain(shifted),
    "none": plain(torch.zeros_like),
}


def masked(ids, lengths, config):
    labels = ids.clone()
    keep = torch.rand(ids.shape) < 0.3
    for row, length in enumerate(lengths):
        keep[row, length:] = False
    keep[0, 1] = True
    labels[~keep] = -100
    return labels


classes = lambda ids, lengths, config: torch.arange(len(lengths)) % config.num_labels
values = lambda ids, lengths, config: torch.linspace(-1, 2, len(lengths))

make("mlm", FNetForMaskedLM, 12, [12, 7, 3], masked,
     vocab_size=50, hidden_size=24, num_hidden_layers=2, intermediate_size=40)
make("mlm_odd", FNetForMaskedLM, 7, [7, 5], masked,
     vocab_size=23, hidden_size=15, num_hidden_layers=3, intermediate_size=31)
make("pretraining", FNetForPreTraining, 9, [9, 6, 4], masked,
     vocab_size=40, hidden_size=20, num_hidden_layers=2, intermediate_size=36)
make("classification", FNetForSequenceClassification, 10, [10, 4, 6, 9, 2], classes,
     vocab_size=40, hidden_size=20, num_hidden_layers=2, intermediate_size=36, num_labels=3)
make("regression", FNetForSequenceClassification, 8, [8, 3, 5], values,
     vocab_size=30, hidden_size=16, num_hidden_layers=1, intermediate_size=24, num_labels=1, problem_type="regression")

small = dict(vocab_size=40, num_hidden_layers=2, intermediate_size=28)
for name in MIXERS:
    if name != "fourier":
        make(name, FNetForMaskedLM, 9, [9, 5], masked, mixers=2 * [(name, MIXERS[name])], hidden_size=15, **small)
make("bert", BertForMaskedLM, 70, [70, 70], masked, vocab_size=40, num_hidden_layers=2, intermediate_size=28,
     hidden_size=18, num_attention_heads=3, hidden_act="gelu_new", attention_probs_dropout_prob=0.0)
for activation in ["prelu", "xielu"]:  # those with weights
    make(activation, FNetForMaskedLM, 9, [9, 5], masked, hidden_size=15, hidden_act=activation, **small)


def make_files():
    """Files that only Python writes: PyTorch's own, whole and in shards, and a SentencePiece model."""
    if sys.argv[1:] and "files" not in sys.argv[1:]:
        return
    import sentencepiece
    import transformers

    folder = HERE / "files"
    folder.mkdir(exist_ok=True)
    model = FNetForMaskedLM.from_pretrained(HERE / "mlm_odd")
    model.config.save_pretrained(folder)
    state = model.state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    torch.save({name: value.half() for name, value in state.items()}, folder / "half.bin")
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.nn.Linear(2, 2)}, folder / "object.bin")
    model.save_pretrained(folder / "shards", max_shard_size="5KB")

    # Rules of our own, as SentencePiece's are a quarter of a megabyte: a few letters, ligatures and spaces.
    rules = {"\uff21": "A", "\ufb01": "fi", "\u00e9": "e", "e\u0301": "e", "\u3000": " ", "\u00a0": " ", "\u2122": "TM"}
    code = lambda text: " ".join(f"{ord(c):X}" for c in text)
    (folder / "rules.tsv").write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in sorted(rules.items())))
    sentencepiece.SentencePieceTrainer.train(
        input=str(HERE.parents[2] / "data/corpus/valid.txt"), model_prefix=str(folder / "spiece"), vocab_size=120,
        model_type="unigram", pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece="<pad>", unk_piece="<unk>",
        bos_piece="[CLS]", eos_piece="[SEP]", user_defined_symbols=["[MASK]"], minloglevel=2,
        normalization_rule_tsv=str(folder / "rules.tsv"),
    )
    (folder / "spiece.vocab").unlink()
    (folder / "rules.tsv").unlink()
    settings = {"do_lower_case": False, "keep_accents": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = transformers.AlbertTokenizer.from_pretrained(folder)
    texts = [
        "The fox saw the tired farmer.", "", "  two  spaces\tand a tab ", "\ufb01ne caf\u00e9 cafe\u0301 \uff21\u3000b\u00a0c \u2122",
        "``quoted'' [MASK] [SEP]", "\u4f60\u597d \U0001f600", "\u2581\u2581x", "don't \u2028 stop",
    ]
    examples = [{"text": text, "tokens": tokenizer(text)["input_ids"]} for text in texts]
    (folder / "spiece.json").write_text(json.dumps(examples, indent=1) + "\n")


def make_tokenizer_settings():
    """What Transformers makes of texts in folders that set their tokenizer in many ways: the folders' files, and ids."""
    import tempfile
    import tokenizers
    import transformers

    name = "tokenizer_settings"
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] the The fox Fox owl was saw caf\u00e9 cafe \u65b0 ##s ##new . , co event new".split()
    letters = [mark + c for c in "abcdefghijklmnopqrstuvwxyz[]" for mark in ("", "##")]
    vocabulary = pieces + [piece for piece in letters if piece not in pieces]
    n = len(vocabulary)
    bert = transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate(vocabulary)})
    json_of = lambda lower=True, **change: json.dumps({
        **(j := json.loads(bert._tokenizer.to_str())), "normalizer": {**j["normalizer"], "lowercase": lower}, **change
    })
    token = lambda content, **flags: {
        "content": content, "lstrip": False, "rstrip": False, "normalized": True, "single_word": False, "special": False,
        **flags,
    }
    special = {"special": True, "normalized": False}
    lines = {"vocab.txt": "\n".join(vocabulary) + "\n", "config.json": json.dumps({"model_type": "bert"})}
    whole = lambda *args, **change: {"tokenizer.json": json_of(*args, **change), "config.json": lines["config.json"]}
    bare = {"type": "TemplateProcessing", "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}}
    bare["single"] = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    bare["pair"] = bare["single"] + [{"Sequence": {"id": "B", "type_id": 1}}]
    generic = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings = {
        "vocab": (lines, {}),
        "tokens in the settings": (lines, {"added_tokens_decoder": {n: token("foxnew"), n + 1: token("[EVENT]", **special)}}),
        "tokens beside tokenizer.json": (whole(), {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {n: token("foxnew"), n + 1: token("Owl", single_word=True)}}),
        "tokens that take blanks": (whole(), {**generic, "added_tokens_decoder": {n: token("foxnew", lstrip=True)}}),
        "old file of tokens": ({**lines, "added_tokens.json": json.dumps({"foxnew": n, "[EVENT]": n + 1}), "special_tokens_map.json": json.dumps({"additional_special_tokens": ["[EVENT]"]})}, {}),
        "more special tokens": (lines, {"additional_special_tokens": ["[EVENT]"]}),
        "more special tokens of release 5": (whole(), {**generic, "extra_special_tokens": ["[EVENT]"]}),
        "cased": (lines, {"do_lower_case": False}),
        "the settings win": (whole(), {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
        "the class wins": (whole(False), {"tokenizer_class": "BertTokenizerFast"}),
        "the model's class wins": (whole(False), {}),
        "no class wins": (whole(False), {**generic, "do_lower_case": True}),
        "accents": (lines, {"strip_accents": False}),
        "Chinese": (lines, {"tokenize_chinese_chars": False}),
        "other names": (lines, {"cls_token": "the", "sep_token": "fox"}),
        "another unknown": (lines, {"unk_token": "the"}),
        "the class's template": (whole(post_processor=bare), {"tokenizer_class": "BertTokenizer"}),
        "BertProcessing": (whole(post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}), generic),
    }
    texts = [
        "The fox saw the owl.", "foxnew,  foxnewfoxnew Owls", "[EVENT] Owl [event] the owl", "Caf\u00e9 cafe\u0301 \u65b0\u65b0 \u65b0new",
        "[MASK] fox [SEP] ?",
    ]
    examples = []
    for what, (files, config) in settings.items():
        files = {**files, "tokenizer_config.json": json.dumps(config)}
        with tempfile.TemporaryDirectory() as folder:
            for file, text in files.items():
                (pathlib.Path(folder) / file).write_text(text)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            pair = tokenizer(texts[0], texts[1], return_token_type_ids=True)
            examples.append({
                "what": what, "files": files, "ids": [tokenizer(text)["input_ids"] for text in texts],
                "pair": [pair["input_ids"], pair["token_type_ids"]],
            })
    stored = json.dumps({"texts": texts, "examples": examples}, indent=0, ensure_ascii=True)
    (HERE / "files" / f"{name}.json").write_text(stored + "\n")


make_files()
make_tokenizer_settings()
make_vectors()
make_similarity()
