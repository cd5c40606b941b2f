"""Round trips between this program and the installed Transformers, both ways, with random weights.

Every folder that Transformers saves is opened here, compared, saved again by `fnet convert`, opened there and
compared; so are the tokenizers, and the scores of models that were trained here. Run by run.sh, which builds the
programs and passes their folder.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from transformers.activations import ACT2FN

TOLERANCE = 1e-4
ACTIVATIONS = sorted(ACT2FN)
SHAPES = [  # layers, hidden, feed-forward, segments
    (1, 20, 24, 1),
    (2, 36, 50, 2),
    (3, 64, 96, 4),
    (5, 100, 130, 3),
    (12, 48, 64, 4),
]
HEADS = {
    "Model": {},
    "ForMaskedLM": {},
    "ForPreTraining": {},
    "ForNextSentencePrediction": {},
    "ForSequenceClassification": {"num_labels": 3, "problem_type": "single_label_classification"},
    "regression": {"num_labels": 1, "problem_type": "regression"},
}
FORMATS = ["safetensors", "shards", "bin", "bin shards", "float16", "bfloat16", "single file"]

failures = []


def check(what, ok, detail=""):
    if not ok:
        failures.append(what)
        print(f"FAILED {what} {detail}", flush=True)


class Programs:
    def __init__(self, folder):
        self.fnet = folder / "fnet"
        self.logits = folder / "examples/logits"
        self.encode = folder / "examples/encode"

    def run(self, *arguments):
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{arguments}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def lines(self, program, folder, objects):
        text = "".join(json.dumps(o) + "\n" for o in objects)
        done = subprocess.run([str(program), str(folder)], input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()[-400:]}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def random_model(family, head, layers, hidden, wide, segments, activation, tied, seed):
    keys = dict(
        vocab_size=67,
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=wide,
        max_position_embeddings=24,
        type_vocab_size=segments,
        hidden_act=activation,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        pad_token_id=0,
        **HEADS[head],
    )
    if family == "Bert":
        config = tf.BertConfig(num_attention_heads=4, **keys)
    else:
        config = tf.FNetConfig(bos_token_id=1, eos_token_id=[2, 3] if seed % 2 else 2, **keys)
    name = "ForSequenceClassification" if head == "regression" else head
    torch.manual_seed(seed)
    model = getattr(tf, family + name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and norms too
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batches(segments, seed):
    random = np.random.default_rng(seed)
    found = []
    for length in [1, 2, 7, 24]:
        tokens = random.integers(1, 67, length).tolist()
        found.append({"tokens": tokens, "segments": sorted(random.integers(0, segments, length).tolist())})
    return found


def theirs(model, batch):
    inputs = {"input_ids": torch.tensor([batch["tokens"]]), "token_type_ids": torch.tensor([batch["segments"]])}
    name = type(model).__name__
    found = {}
    with torch.no_grad():
        if name.startswith("Mixing"):
            out = model(**inputs)
            found["hidden"] = model.base_model(**inputs).last_hidden_state
        else:
            out = model(**inputs, output_hidden_states=True)
    if "hidden_states" in out and out.hidden_states is not None:
        found["hidden"] = out.hidden_states[-1]
    if name.endswith("MaskedLM"):
        found["tokens"] = out.logits
    elif name.endswith("PreTraining"):
        found["tokens"], found["classes"] = out.prediction_logits, out.seq_relationship_logits
    elif not name.endswith("Model"):
        found["classes"] = out.logits
    return {key: value.float().numpy().ravel() for key, value in found.items()}


def compare(what, ours, model, tests):
    for mine, batch in zip(ours, tests):
        for key, exact in theirs(model, batch).items():
            found = np.array(mine[key])
            if found.shape != exact.shape:
                return check(what, False, f"{key}: {found.shape} for {exact.shape}")
            worst = np.abs(found - exact).max()
            check(what, worst <= TOLERANCE * max(1, np.abs(exact).max()), f"{key} differs by {worst:.1e}")


def save(model, folder, form):
    """Returns what is to be opened."""
    if form == "shards":
        model.save_pretrained(folder, max_shard_size="5KB")
        assert (folder / "model.safetensors.index.json").exists()
        return folder
    if form in ("float16", "bfloat16"):
        model.to(getattr(torch, form))
        model.save_pretrained(folder)
        model.float()
        return folder
    model.save_pretrained(folder)
    if form.startswith("bin"):
        (folder / "model.safetensors").unlink()
        state = model.state_dict()
        if form == "bin":
            torch.save(state, folder / "pytorch_model.bin")
        else:
            names, half = list(state), len(state) // 2
            shards = {"pytorch_model-00001-of-00002.bin": names[:half], "pytorch_model-00002-of-00002.bin": names[half:]}
            for file, part in shards.items():
                torch.save({name: state[name] for name in part}, folder / file)
            index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder / "model.safetensors" if form == "single file" else folder


def write_tokenizer(folder):
    """Any tokenizer with the right size: `convert` wants one."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(special + [f"w{i}" for i in range(62)]) + "\n")


def models(programs):
    count = 0
    cases = []
    for i, activation in enumerate(ACTIVATIONS):  # every activation, shapes and heads in turn
        cases.append((*SHAPES[i % len(SHAPES)], activation, list(HEADS)[i % len(HEADS)], i % 3 != 0, FORMATS[i % len(FORMATS)]))
    for i, head in enumerate(HEADS):  # every head with every shape
        for j, shape in enumerate(SHAPES):
            cases.append((*shape, "gelu_new", head, (i + j) % 2 == 0, FORMATS[(i + j) % len(FORMATS)]))
    for seed, (layers, hidden, wide, segments, activation, head, tied, form) in enumerate(cases):
        for family in ["FNet", "Bert"]:
            what = f"{family} {head}, {layers} x {hidden}, {activation}, {'tied' if tied else 'untied'}, {form}"
            with tempfile.TemporaryDirectory() as place:
                folder, again = Path(place) / "theirs", Path(place) / "ours"
                try:
                    model = random_model(family, head, layers, hidden, wide, segments, activation, tied, seed)
                    path = save(model, folder, form)
                    write_tokenizer(folder)
                    tests = batches(segments, seed)
                    if form in ("float16", "bfloat16"):  # the rounded weights are the model now
                        model = type(model).from_pretrained(folder, dtype=torch.float32).eval()
                    compare(f"open {what}", programs.lines(programs.logits, path, tests), model, tests)
                    programs.run(programs.fnet, "convert", "--model", path, "--out", again)
                    opened, info = type(model).from_pretrained(again, output_loading_info=True, dtype=torch.float32)
                    lost = [n for n in info["missing_keys"] if "pooler" not in n] + list(info["unexpected_keys"])
                    check(f"save {what}", not lost, f"missing or unexpected: {lost}")
                    check(f"save {what}", opened.config.architectures == [type(model).__name__], opened.config.architectures)
                    compare(f"save {what}", programs.lines(programs.logits, again, tests), opened.eval(), tests)
                except Exception as error:
                    check(what, False, repr(error))
            count += 1
    print(f"{count} models, both ways", flush=True)


HOSTILE = [
    "", " ", "\t\n", "a", "\u00a0", "\u200b\u200d", "e\u0301 \u00e9", "\ufb01 \u2460 \u33a5", "\u4f60\u597d\u4e16\u754c",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0645\u0631\u062d\u0628\u0627",
    "\u2028\u2029\u0085", "a\u0000b", "[MASK] [CLS] [SEP] [PAD] [UNK]", "<unk> <pad> \u2581\u2581 \u2581x", "``quoted'' \"x\"",
    "I\u0307 \u0130 \u1e9e \u01c5", "1,000,000.5 9, 12,", "x" * 500, "\u0301" * 50, "\ud7ff\ue000\ufffd", "##ing ##",
    "tab\tand  two   spaces ", "\u1100\u1161\u11a8 \uac01", "\U00010348\U0001d11e", "\u202eabc\u202c", "don't can\u2019t",
]


def tokenizer_texts(path):
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if len(lines) < 10_000:
        print(f"{path}: only {len(lines)} lines", flush=True)
    texts = lines[:10_000] + HOSTILE
    return texts, [[a, b] for a, b in zip(texts[:200] + HOSTILE, texts[200:400] + HOSTILE[::-1])]


def compare_tokenizers(what, programs, folder, tokenizer, texts, pairs):
    ours = programs.lines(programs.encode, folder, texts + pairs)
    wrong = 0
    for text, mine in zip(texts + pairs, ours):
        # Called directly, it would take an empty second text for none.
        exact = tokenizer.backend_tokenizer.encode(*(text if isinstance(text, list) else [text]))
        if exact.ids != mine["tokens"] or exact.type_ids != mine["segments"]:
            wrong += 1
            if wrong <= 3:
                print(f"  {text!r}\n  theirs {exact.ids[:40]}\n  ours   {mine['tokens'][:40]}", flush=True)
    check(f"tokenizer {what}", wrong == 0, f"{wrong} of {len(ours)} texts differ")
    print(f"tokenizer {what}: {len(ours)} texts", flush=True)


def tokenizers(programs, text_file):
    import sentencepiece

    texts, pairs = tokenizer_texts(text_file)
    corpus = "\n".join(text for text in texts[:4_000] if "\0" not in text)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        (place / "corpus.txt").write_text(corpus)
        for kind in ["wordpiece", "unigram"]:
            for cased in [[], ["--cased"]]:
                out = place / f"{kind}{len(cased)}"
                programs.run(
                    programs.fnet, "pretrain", "--corpus", place / "corpus.txt", "--vocab-size", 700, "--kind", kind,
                    "--preset", "tiny", "--steps", 1, "--quiet", "--out", out, *cased,
                )
                tokenizer = tf.AutoTokenizer.from_pretrained(out)
                compare_tokenizers(f"{kind} {' '.join(cased)}", programs, out, tokenizer, texts, pairs)
        for lower, accents in [(True, False), (False, True)]:
            out = place / f"spm{lower}"
            out.mkdir()
            sentencepiece.SentencePieceTrainer.train(
                input=str(place / "corpus.txt"), model_prefix=str(out / "spiece"), vocab_size=700, model_type="unigram",
                pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece="<pad>", unk_piece="<unk>", bos_piece="[CLS]",
                eos_piece="[SEP]", user_defined_symbols=["[MASK]"], minloglevel=2, hard_vocab_limit=False,
            )
            (out / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower, "keep_accents": accents}))
            # FNetTokenizer is this one under another name, but release 5 runs it without [CLS] and [SEP].
            tokenizer = tf.AlbertTokenizer.from_pretrained(out)
            compare_tokenizers(f"spiece.model, lower {lower}", programs, out, tokenizer, texts, pairs)
        out = place / "vocab"
        out.mkdir()
        words = sorted({w for line in texts[:500] for w in line.lower().split() if w.isascii() and w.isalpha()})
        letters = [chr(c) for c in range(33, 127)] + [f"##{chr(c)}" for c in range(97, 123)]
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        (out / "vocab.txt").write_text("\n".join(dict.fromkeys(special + letters + words)) + "\n")
        compare_tokenizers("vocab.txt", programs, out, tf.BertTokenizer.from_pretrained(out), texts, pairs)


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def check_padded(programs, folder, model, tokenizer, text):
    """Padding that is mixed in: `--pad-to` and `padding="max_length"` give one vector of the first token."""
    path = folder / "text.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([[f"text{i}" for i in range(len(text))], text])
    columns = ",".join(f"text{i}" for i in range(len(text)))
    programs.run(
        programs.fnet, "embed", "--model", folder, "--input", path, "--text", columns, "--pool", "first", "--pad-to", 48,
        "--quiet", "--output", folder / "padded.npy",
    )
    padded = tokenizer(*text, padding="max_length", max_length=48, return_tensors="pt")
    with torch.no_grad():
        exact = model.fnet(**padded).last_hidden_state[0, 0].numpy()
    worst = np.abs(np.load(folder / "padded.npy")[0] - exact).max()
    check(f"{folder.name} padded to 48", worst <= TOLERANCE, f"differs by {worst:.1e}")


def scores(programs, data):
    """After fine-tuning here, a plain evaluation there gives the same metric."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        plain = ["--pooling", "first", "--pairs", "together", "--bag", "false"]  # what Transformers' own classes read
        quick = ["--quiet", "--preset", "tiny", "--vocab-size", 600, "--seq-len", 64, "--mixer", "fourier"]
        for objective, name in [("mlm", "ForMaskedLM"), ("mlm-nsp", "ForPreTraining"), ("mlm-sop", "ForPreTraining")]:
            programs.run(
                programs.fnet, "pretrain", "--corpus", data / "corpus/valid.txt", "--objective", objective,
                "--steps", 60, *quick, "--out", place / objective,
            )
            auto = tf.AutoModelForMaskedLM if objective == "mlm" else tf.AutoModelForPreTraining
            opened = auto.from_pretrained(place / objective)
            check(f"{objective} opens", type(opened).__name__ == "FNet" + name, type(opened).__name__)
        programs.run(
            programs.fnet, "convert", "--model", place / "mlm-nsp", "--head", "next-sentence", "--out", place / "nsp"
        )
        opened = tf.AutoModelForNextSentencePrediction.from_pretrained(place / "nsp")
        tests = [{"tokens": [2, 9, 3, 11, 3], "segments": [0, 0, 0, 1, 1]}]
        compare("next sentence", programs.lines(programs.logits, place / "nsp", tests), opened.eval(), tests)
        for task, folder, columns, metric in [
            ("sst2", "sentiment", ["sentence"], "accuracy"),
            ("stsb", "similarity", ["sentence1", "sentence2"], "pearson"),
        ]:
            programs.run(
                programs.fnet, "finetune", "--model", place / "mlm", "--task", task, "--data", data / folder,
                *plain, "--epochs", 4, "--learning-rate", 1e-3, "--quiet", "--out", place / task,
            )
            ours = json.loads(programs.run(programs.fnet, "evaluate", "--model", place / task, "--json"))
            model = tf.AutoModelForSequenceClassification.from_pretrained(place / task).eval()
            tokenizer = tf.AutoTokenizer.from_pretrained(place / task)
            rows = read_rows(data / folder / "dev.tsv")
            texts = [[row[c] for c in columns] for row in rows]
            check_padded(programs, place / task, model, tokenizer, texts[0])
            with torch.no_grad():
                outputs = [
                    model(**tokenizer(*text, truncation=True, return_tensors="pt")).logits[0].numpy() for text in texts
                ]
            if task == "sst2":
                exact = np.mean([model.config.id2label[int(o.argmax())] == row["label"] for o, row in zip(outputs, rows)])
            else:
                exact = np.corrcoef([float(o[0]) for o in outputs], [float(row["score"]) for row in rows])[0, 1]
                check("problem_type", model.config.problem_type == "regression")
            check(f"{task} {metric}", abs(ours[metric] - exact) < 5e-5, f"{ours[metric]:.6f} here, {exact:.6f} there")
            print(f"{task}: {metric} {ours[metric]:.4f} here, {exact:.4f} there", flush=True)


MIXERS = ["fourier,reservoir", "linear,mlp", "hartley,attention", "fourier-seq,fourier-hidden", "random,none", "shift,fourier"]
READOUTS = [  # task, its folder, flags, whether long texts are read in windows
    ("sst2", "sentiment", ["--pooling", "mean+max+embeddings"], True),
    ("sst2", "sentiment", ["--pooling", "query", "--bag", "false"], True),
    ("sst2", "sentiment", ["--pooling", "layers+max"], True),
    ("sst2", "sentiment", ["--pooling", "last+first", "--bag", "false"], False),
    ("sst2", "sentiment", ["--pooling", "mean", "--pad-to", 48], True),
    ("stsb", "similarity", [], True),
    ("stsb", "similarity", ["--pairs", "towers", "--pooling", "mean+first"], True),
    ("stsb", "similarity", ["--pairs", "together", "--pooling", "max"], False),
    ("rte", "entailment", ["--pairs", "towers"], True),
    ("rte", "entailment", ["--pairs", "symmetric-towers", "--pooling", "query"], True),
    ("rte", "entailment", ["--pairs", "symmetric-towers", "--matching", "true"], True),
    ("rte", "entailment", ["--pairs", "towers", "--matching", "false"], True),
    ("stsb", "similarity", ["--matching", "true"], True),
    ("rte", "entailment", ["--pairs", "together", "--pooling", "first", "--bag", "true"], False),
]
SHORT = 40


def open_own(what, auto, folder):
    """Opens a folder by the code that it carries."""
    model, info = auto.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    name = type(model).__name__
    check(what, name == auto.__name__.replace("AutoModel", "Mixing"), f"opens as {name}")
    lost = {key: info[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"] if info[key]}
    check(what, not lost, lost)
    bare, info = tf.AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    lost = [key for key in info["missing_keys"] if "pooler" not in key]
    check(what, type(bare).__name__ == "MixingModel" and not lost, f"without its head lacks {lost}")
    return model.eval()


def shake(folder):
    """Moves all weights, so that what little training leaves as it was shows too; a reservoir's are not read here."""
    torch.manual_seed(1)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if ".reservoir." not in name and name != "classifier.weight":
            weight += (1.0 if name.endswith("query") else 0.1) * torch.randn_like(weight)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def set_config(folder, **keys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


def compare_own(what, programs, auto, folder):
    """A folder's own code and the program, on sequences alone and together."""
    shake(folder)
    model, tests = open_own(what, auto, folder), batches(2, len(what))
    compare(what, programs.lines(programs.logits, folder, tests), model, tests)
    ids = torch.full([len(tests), 30], model.config.pad_token_id)
    for row, test in zip(ids, tests):
        row[: len(test["tokens"])] = torch.tensor(test["tokens"])
    with torch.no_grad():
        together = model.base_model(ids).last_hidden_state
        for row, x, test in zip(ids, together, tests):
            length = len(test["tokens"])
            worst = (model.base_model(row[None, :length]).last_hidden_state[0] - x[:length]).abs().max().item()
            check(what, worst <= 1e-5 and not x[length:].any(), f"in a batch differs by {worst:.1e}")


def predictions(programs, folder, columns, texts):
    """Numbers [rows, 1] or probabilities [rows, classes], as the program gives them."""
    path, answers = folder / "rows.tsv", folder / "answers.jsonl"
    path.write_text("".join("\t".join(row) + "\n" for row in [columns] + texts))
    programs.run(
        programs.fnet, "predict", "--model", folder, "--input", path, "--text", ",".join(columns), "--output", answers,
        "--overwrite", "--quiet",
    )
    answers = [json.loads(line) for line in answers.read_text().splitlines()]
    of = lambda answer: list(answer["probabilities"].values()) if "probabilities" in answer else [answer["prediction"]]
    return torch.tensor([of(answer) for answer in answers])


def filled(tokenizer, texts, config):
    """Rows as their tokenizer fills them up; in towers [examples, 2, length]."""
    fill = "max_length" if config.padding == "fixed" else "longest"
    if getattr(config, "classifier_pairs", "together") == "together":
        return tokenizer(*map(list, zip(*texts)), padding=fill, truncation=True, return_tensors="pt")
    rows = tokenizer(sum(texts, []), padding=fill, truncation=True, return_tensors="pt")
    return {key: value.view(-1, 2, value.shape[-1]) for key, value in rows.items()}


def in_windows(tokenizer, texts, longest):
    """Rows with each text in as few windows of equal length as it needs, [examples, texts * windows, longest]; a text
    with fewer than another has windows of padding."""
    pad, windows = tokenizer.pad_token_id, {}
    for text in sum(texts, []):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        count = max(1, -(-len(ids) // (longest - 2)))
        parts = [ids[len(ids) * i // count : len(ids) * (i + 1) // count] for i in range(count)]
        rows = [[tokenizer.cls_token_id, *part, tokenizer.sep_token_id] for part in parts]
        windows[text] = [row + [pad] * (longest - len(row)) for row in rows]
    most = max(map(len, windows.values()))
    rows = [[windows[text] + [[pad] * longest] * (most - len(windows[text])) for text in example] for example in texts]
    check("windows", most > 2)
    return {"input_ids": torch.tensor(rows).flatten(1, 2)}


def compare_predictions(what, programs, folder, texts, columns, has_windows):
    """What `predict` says of texts, and the folder's own code of all together: short ones, and long ones."""
    shake(folder)
    exact = predictions(programs, folder, columns, texts)
    model = open_own(what, tf.AutoModelForSequenceClassification, folder)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    is_number, longest = model.config.problem_type == "regression", tokenizer.model_max_length
    long = texts[SHORT:]
    found = []
    with torch.no_grad():
        for rows in [
            filled(tokenizer, texts[:SHORT], model.config),
            in_windows(tokenizer, long, longest) if has_windows else filled(tokenizer, long, model.config),
        ]:
            logits = model(**rows).logits
            found.append(logits if is_number else logits.softmax(-1))
    worst = ((torch.cat(found) - exact).abs() / (exact.abs().clamp(min=1) if is_number else 1)).max().item()
    check(what, worst <= TOLERANCE, f"differs by {worst:.1e}")
    check(what, exact.std(0).min() > 1e-3, "says the same of every row, which compares nothing")
    print(f"{what}: {len(exact)} rows, within {worst:.1e}", flush=True)


def own_code(programs, data):
    """Folders that Transformers' own classes cannot compute open by the code that they carry."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        quick = ["--quiet", "--preset", "tiny", "--vocab-size", 600, "--seq-len", 64, "--steps", 60]
        corpus = ["--corpus", data / "corpus/valid.txt"]
        for mixers in MIXERS + ["attention,attention"]:
            pretrained = place / mixers
            programs.run(programs.fnet, "pretrain", *corpus, "--mixers", mixers, *quick, "--out", pretrained)
            if mixers in MIXERS:
                compare_own(mixers, programs, tf.AutoModelForMaskedLM, pretrained)
            for number, (task, folder, flags, has_windows) in enumerate(READOUTS):
                if mixers not in MIXERS[:2] and number > 0:
                    break
                out = place / f"{mixers}-{number}"
                programs.run(
                    programs.fnet, "finetune", "--model", pretrained, "--task", task, "--data", data / folder, *flags,
                    "--epochs", 2, "--learning-rate", 3e-3, "--quiet", "--out", out,
                )
                columns = ["sentence"] if task == "sst2" else ["sentence1", "sentence2"]
                texts = [[row[c] for c in columns] for row in read_rows(data / folder / "dev.tsv")]
                texts[0][0] += " [PAD] [MASK] and more"  # padding is what follows a text
                # Long ones are made of several; of a pair, one is longer than the other.
                joined = lambda i, j: " ".join(text[j] for text in texts[i : i + 8 * (1 + j) + 3 * i])
                long = [[joined(i, j) for j in range(len(columns))] for i in range(6)]
                what = " ".join([mixers, task, *map(str, flags)])
                compare_predictions(what, programs, out, texts[:SHORT] + long, columns, has_windows)
        for mixer in ["fourier", "attention"]:  # a head of pretraining that reads more than the first token
            before = place / mixer
            flags = ["--objective", "mlm-nsp", "--mixer", mixer]
            programs.run(programs.fnet, "pretrain", *corpus, *flags, *quick, "--out", before)
            set_config(before, classifier_pooling="mean")
            for head, auto in [
                ("pre-training", tf.AutoModelForPreTraining),
                ("next-sentence", tf.AutoModelForNextSentencePrediction),
                ("masked-lm", tf.AutoModelForMaskedLM),
            ]:
                folder = place / f"{mixer} {head}"
                programs.run(programs.fnet, "convert", "--model", before, "--head", head, "--out", folder)
                compare_own(f"mean of {mixer}, {head}", programs, auto, folder)
        for seed, activation in enumerate(["gelu", "prelu", "xielu"]):  # weights of Transformers', mixed in another way
            before, folder = place / f"before {activation}", place / activation
            random_model("FNet", "ForMaskedLM", 3, 36, 50, 2, activation, False, seed).save_pretrained(before)
            write_tokenizer(before)
            set_config(before, mixers=["hartley", "fourier-hidden", "fourier"])
            programs.run(programs.fnet, "convert", "--model", before, "--out", folder)
            compare_own(f"hartley, {activation}, untied", programs, tf.AutoModelForMaskedLM, folder)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("programs", type=Path, help="folder of the built programs")
    arguments.add_argument("--data", type=Path, required=True, help="the sample data")
    arguments.add_argument("--text", type=Path, help="10,000 lines for the tokenizers; by default the sample's")
    given = arguments.parse_args()
    tf.logging.set_verbosity_error()
    tf.logging.disable_progress_bar()
    torch.set_num_threads(1)
    programs = Programs(given.programs)
    tokenizers(programs, given.text or given.data / "corpus/train.txt")
    scores(programs, given.data)
    own_code(programs, given.data)
    models(programs)
    print("FAILED: " + ", ".join(sorted(set(failures))) if failures else "all round trips hold")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
