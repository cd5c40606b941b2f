"""What Transformers' FNet and BERT do not compute: other mixers, other readouts, pairs in towers, the bag, vectors of texts.

    model = AutoModelForSequenceClassification.from_pretrained(DIR, trust_remote_code=True)

`input_ids` is [examples, length], or [examples, rows, length] where an example has several sequences: in towers its
first text and its second, each in as many windows; otherwise the windows of one long text. What is padding, be it a
whole row, is told by `attention_mask`; by default it is all after a row's last token other than `pad_token_id`. Every
sequence is mixed at its own length, so that padding changes nothing. Where config.json has `"padding": "fixed"` it is
mixed in, as in training: fill sequences up to the same length (`padding="max_length"`). A head never reads it.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel, modeling_outputs
from transformers.activations import ACT2FN
from transformers.models.fnet.modeling_fnet import FNetForPreTrainingOutput
from transformers.utils.generic import can_return_tuple


class MixingConfig(PretrainedConfig):
    """What config.json says, all of it. `base_model_type`, fnet or bert, is what the model is built on."""

    model_type = "fnet-mixing"
    _auto_class = "AutoConfig"


def norm(config):
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


def words_of(config):
    return nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)


def width_of_read(config, pools=None):
    pools = pools or pools_of(config)
    return (len(pools) + ("layers" in pools) * config.num_hidden_layers) * config.hidden_size


def pools_of(config):
    return [pool.strip() for pool in getattr(config, "classifier_pooling", "first").split("+")]


def pairs_of(config):
    return getattr(config, "classifier_pairs", "together")


def attention(layer, x):
    inputs, output = layer.attention["self"], layer.attention.output
    parts = [part(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in inputs.values()]
    context = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    return F.dropout(output.dense(context), layer.rate, layer.training)


def linear(layer, x):
    """A matrix over the sequence, of which a shorter one uses the leading part, and one over the hidden axis."""
    return layer.mixing.sequence.weight[: x.shape[1], : x.shape[1]] @ layer.mixing.hidden(x)


def mlp(layer, x):
    """Two layers over the sequence; a shorter one uses the first's leading columns, the second's leading rows."""
    length, (into, out) = x.shape[1], layer.mixing.values()
    inner = F.gelu(F.linear(x.transpose(1, 2), into.weight[:, :length], into.bias), approximate="tanh")
    return F.linear(inner, out.weight[:length], out.bias[:length]).transpose(1, 2)


def shift(layer, x):
    """The next token's second half, then the first half of the one before; of an odd width the middle is zero."""
    half, around = x.shape[-1] // 2, F.pad(x, (0, 0, 1, 1))
    middle = torch.zeros_like(x[..., : x.shape[-1] % 2])
    return torch.cat([around[:, 2:, x.shape[-1] - half :], middle, around[:, :-2, :half]], dim=-1)


def reservoir(layer, x):
    """A fixed recurrent network of leaky units: the first half read forwards, the others backwards."""
    def states(share, weight):  # in the order of reading, from the input's share of the activation
        state, states = torch.zeros_like(share[:, 0]), []
        for step in share.unbind(1):
            state = state + layer.leak * (torch.tanh(step + state @ weight.T) - state)
            states.append(state)
        return torch.stack(states, dim=1)

    weights = layer.reservoir
    ahead, back = (x @ weights.input.T).split([len(weights.forwards), len(weights.backwards)], dim=-1)
    return torch.cat([states(ahead, weights.forwards), states(back.flip(1), weights.backwards).flip(1)], dim=-1)


# From [sequences, length, hidden], sequences of one length, to the same.
MIXERS = {
    "fourier": lambda layer, x: torch.fft.fft2(x.float()).real.to(x.dtype),
    "fourier-seq": lambda layer, x: torch.fft.fft(x.float(), dim=1).real.to(x.dtype),
    "fourier-hidden": lambda layer, x: torch.fft.fft(x.float(), dim=2).real.to(x.dtype),
    "hartley": lambda layer, x: torch.fft.fft2((1 + 1j) * x.float()).real.to(x.dtype),  # real less imaginary part
    "none": lambda layer, x: torch.zeros_like(x),
    "attention": attention,
    "linear": linear,
    "random": linear,
    "mlp": mlp,
    "reservoir": reservoir,
    "shift": shift,
}


class Reservoir(nn.Module):
    """Its weights, which are fixed."""

    def __init__(self, hidden):
        super().__init__()
        for name, size in [("input", hidden), ("forwards", hidden - hidden // 2), ("backwards", hidden // 2)]:
            self.register_buffer(name, torch.zeros(size, size))


class Layer(nn.Module):
    """Mixing, then feed-forward, each with its residual and norm."""

    def __init__(self, config, mixer):
        super().__init__()
        hidden, longest, wide = config.hidden_size, config.max_position_embeddings, config.intermediate_size
        group = nn.ModuleDict
        self.mixer, self.rate = mixer, config.hidden_dropout_prob
        self.heads = getattr(config, "num_attention_heads", None) or max(1, hidden // 64)
        self.leak = (getattr(config, "reservoir", None) or {}).get("leak", 0.5)
        if mixer == "attention":
            inputs = group({part: nn.Linear(hidden, hidden) for part in ["query", "key", "value"]})
            output = group({"dense": nn.Linear(hidden, hidden), "LayerNorm": norm(config)})
            self.attention = group({"self": inputs, "output": output})
        else:
            self.fourier = group({"output": group({"LayerNorm": norm(config)})})
        if mixer in ("linear", "random"):
            matrices = {"sequence": longest, "hidden": hidden}.items()
            self.mixing = group({axis: nn.Linear(size, size, bias=False) for axis, size in matrices})
            self.mixing.requires_grad_(mixer == "linear")
        if mixer == "mlp":
            inside = (hidden + 1) // 2
            self.mixing = group({"in": nn.Linear(longest, inside), "out": nn.Linear(inside, longest)})
        if mixer == "reservoir":
            self.reservoir = Reservoir(hidden)
        self.intermediate = group({"dense": nn.Linear(hidden, wide), "intermediate_act_fn": ACT2FN[config.hidden_act]})
        self.output = group({"dense": nn.Linear(wide, hidden), "LayerNorm": norm(config)})

    def forward(self, x):
        mixing = self.attention if self.mixer == "attention" else self.fourier
        x = mixing.output.LayerNorm(x + MIXERS[self.mixer](self, x))
        wide = self.intermediate.intermediate_act_fn(self.intermediate.dense(x))
        return self.output.LayerNorm(x + F.dropout(self.output.dense(wide), self.rate, self.training))


def mean(x, own):
    """[texts, hidden] of `x` [texts, tokens, hidden] where `own` [texts, tokens]."""
    return (x * own[..., None]).sum(1) / own.sum(1, keepdim=True)


class Readout(nn.Module):
    """Vectors that are read of each text, side by side."""

    def __init__(self, config, pools):
        super().__init__()
        self.pools, self.hidden = pools, config.hidden_size
        if "query" in pools:
            self.query = nn.Parameter(torch.zeros(1, config.hidden_size))
        if "weighted" in pools:
            self.register_buffer("word_weights", torch.ones(config.vocab_size))

    def read(self, pool, x, words, ids, own):
        """[texts, hidden] of the last layer's output and the word embeddings, both [texts, tokens, hidden]; of all layers
        if they are read, after the other."""
        if pool == "layers":
            return mean(x, own)
        if pool == "weighted":
            weights = self.word_weights[ids] * own
            return (words * weights[..., None]).sum(1) / (weights != 0).sum(1, keepdim=True).clamp(min=1)
        x = x[..., -self.hidden :]
        texts, places = torch.arange(len(x), device=x.device), torch.arange(x.shape[1], device=x.device)
        if pool == "first":
            return x[texts, own.int().argmax(1)]
        if pool == "last":
            return x[texts, (own * places).argmax(1)]
        if pool == "max":
            return x.masked_fill(~own[..., None], -torch.inf).amax(1)
        if pool == "query":
            scores = x @ self.query[0] / x.shape[-1] ** 0.5
            return (scores.masked_fill(~own, -torch.inf).softmax(1)[..., None] * x).sum(1)
        if pool == "sqrt-mean":
            return mean(x, own) * own.sum(1, keepdim=True).sqrt()
        if pool == "position-mean":
            shares = own * own.cumsum(1)
            return (x * shares[..., None]).sum(1) / shares.sum(1, keepdim=True)
        return mean({"mean": x, "embeddings": words}[pool], own)

    def read_all(self, x, words, ids, own):
        return torch.cat([self.read(pool, x, words, ids, own) for pool in self.pools], dim=-1)


class Pooler(Readout):
    """What is read of each text, through a dense layer, and through tanh where texts are not compared."""

    def __init__(self, config):
        super().__init__(config, pools_of(config))
        self.is_tower, read = pairs_of(config) != "together", width_of_read(config)
        if getattr(config, "classifier_standardized", False):
            self.register_buffer("mean", torch.zeros(read))
            self.register_buffer("deviation", torch.ones(read))
        self.is_linear = getattr(config, "classifier_linear", False)
        if not self.is_linear:
            self.dense = nn.Linear(read, read if self.is_tower else config.hidden_size)

    def forward(self, *texts):
        read = self.read_all(*texts)
        read = (read - self.mean) / self.deviation if hasattr(self, "mean") else read
        if self.is_linear:
            return read
        pooled = self.dense(read)
        return pooled if self.is_tower else torch.tanh(pooled)


class Sentence(Readout):
    """A text's vector: what is read of it, through dense layers, numbered from 0."""

    def __init__(self, config):
        told = config.sentence
        super().__init__(config, [pool.strip() for pool in told["pooling"].split("+")])
        self.activations, self.is_scaled = [], told.get("normalize", False)
        width = width_of_read(config, self.pools)
        for i, dense in enumerate(told.get("dense", [])):
            self.add_module(str(i), nn.Linear(width, dense["outputs"]))
            self.activations.append(ACT2FN[dense.get("activation", "linear")])
            width = dense["outputs"]
        self.width = width

    def forward(self, *texts):
        x = self.read_all(*texts)
        for i, activation in enumerate(self.activations):
            x = activation(getattr(self, str(i))(x))
        return F.normalize(x, dim=-1) if self.is_scaled else x


class Matching(nn.Module):
    """How much of each text of a pair is found in the other: means of its words' largest cosines."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.register_buffer("weight", torch.ones(config.vocab_size))  # how much a word tells

    def forward(self, words, ids, own, is_symmetric):
        """[pairs, 2] of [texts, tokens, hidden], [texts, tokens] and where those are the texts' own."""
        x, told = F.normalize(self.dense(words), dim=-1, eps=1e-8), self.weight[ids] * own
        cosines = x[0::2] @ x[1::2].transpose(1, 2)
        best = [cosines.masked_fill(~own[1::2, None], -torch.inf).amax(2)]
        best.append(cosines.masked_fill(~own[0::2, :, None], -torch.inf).amax(1))
        found = [(best[i] * told[i::2]).sum(1) / told[i::2].sum(1).clamp(min=1e-8) for i in range(2)]
        found = torch.stack(found, dim=1)
        return found.sort(dim=1).values if is_symmetric else found


class Relation(nn.Linear):
    """The output for whole examples from their texts' vectors, which are compared where there are two."""

    def __init__(self, config, outputs, predicts_number=False):
        read, self.way = width_of_read(config), pairs_of(config)
        if predicts_number and self.way != "together":
            self.way = "cosine"
        one = read if getattr(config, "classifier_linear", False) else config.hidden_size
        seen = {"together": one, "cosine": 1, "towers": 4 * read + 1, "symmetric-towers": 2 * read + 1}
        matches = getattr(config, "classifier_matching", False) and self.way != "together"
        super().__init__(seen[self.way] + 2 * matches, outputs)
        if matches:
            self.matching = Matching(config)

    def forward(self, pooled, texts=None):
        """Of texts' vectors; `texts` makes what the words' matches are made of, where they are."""
        if self.way == "together":
            return super().forward(pooled)
        if pooled.dim() != 3:
            raise ValueError("this model reads pairs in towers: give input_ids as [examples, 2, length]")
        u, v = pooled.unbind(1)
        parts = {"cosine": [], "towers": [u, v, (u - v).abs(), u * v], "symmetric-towers": [(u - v).abs(), u * v]}
        parts = [*parts[self.way], F.cosine_similarity(u, v, eps=1e-8)[:, None]]
        if hasattr(self, "matching"):
            parts.append(self.matching(*texts(), self.way != "towers"))
        return super().forward(torch.cat(parts, dim=-1))


class Predictions(nn.Module):
    """Logits [.., vocabulary] of [.., hidden], by the word embeddings where they are tied."""

    def __init__(self, config):
        super().__init__()
        dense, active = nn.Linear(config.hidden_size, config.hidden_size), ACT2FN[config.hidden_act]
        self.transform = nn.ModuleDict({"dense": dense, "transform_act_fn": active, "LayerNorm": norm(config)})
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.decoder = None if config.tie_word_embeddings else nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, x, words):
        for part in self.transform.values():
            x = part(x)
        return F.linear(x, words.weight, self.bias) if self.decoder is None else self.decoder(x)


class Mixing(PreTrainedModel):
    """A model with parts for a head, or, without, the encoder itself."""

    config_class = MixingConfig

    def __init__(self, config, **parts):
        super().__init__(config)
        self.base_model_prefix = config.base_model_type
        if parts:
            self.add_module(config.base_model_type, MixingModel(config))
            for name, part in parts.items():
                self.add_module(name, part)
            self.post_init()

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, Readout) and "query" in module.pools:
            nn.init.normal_(module.query, std=self.config.initializer_range)
        if isinstance(module, Predictions):
            nn.init.zeros_(module.bias)
        if isinstance(module, Reservoir):  # of a model that comes from no folder
            for weight in module.buffers():
                nn.init.normal_(weight, std=len(weight) ** -0.5)

    def get_input_embeddings(self):
        return self.base_model.embeddings.word_embeddings


class MixingModel(Mixing):
    _auto_class = "AutoModel"  # by which it is saved with this file

    def __init__(self, config):
        super().__init__(config)
        hidden, is_fnet = config.hidden_size, config.base_model_type == "fnet"
        self.embeddings = nn.ModuleDict({
            "word_embeddings": words_of(config),
            "position_embeddings": nn.Embedding(config.max_position_embeddings, hidden),
            "token_type_embeddings": nn.Embedding(config.type_vocab_size, hidden),
            "LayerNorm": norm(config),
            "projection": nn.Linear(hidden, hidden) if is_fnet else nn.Identity(),
        })
        mixers = getattr(config, "mixers", None) or config.num_hidden_layers * ["fourier" if is_fnet else "attention"]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config, mixer) for mixer in mixers)})
        self.pooler = Pooler(config)
        self.sentence = Sentence(config) if getattr(config, "sentence", None) else None
        readouts = [self.pooler, self.sentence] if self.sentence else [self.pooler]
        self.reads_layers = any("layers" in readout.pools for readout in readouts)
        self.pad = -1 if config.pad_token_id is None else config.pad_token_id
        self.post_init()

    def mix(self, ids, segments):
        """The last layer's output [sequences, length, hidden] for [sequences, length], sequences of one length; before it
        the embeddings' and the other layers' outputs if they are read."""
        e = self.embeddings
        x = e.word_embeddings(ids) + e.position_embeddings.weight[: ids.shape[1]] + e.token_type_embeddings(segments)
        x = F.dropout(e.projection(e.LayerNorm(x)), self.config.hidden_dropout_prob, self.training)
        outputs = [x]
        for layer in self.encoder.layer:
            outputs.append(layer(outputs[-1]))
        return torch.cat(outputs, -1) if self.reads_layers else outputs[-1]

    def mask(self, ids, attention_mask):
        if attention_mask is not None:
            return attention_mask.bool()
        return (ids != self.pad).flip(-1).cumsum(-1).flip(-1) > 0

    def texts(self, ids, attention_mask):
        """Ids, and whether a head reads them, both [texts, tokens]."""
        texts = len(ids) * (2 if ids.dim() == 3 and pairs_of(self.config) != "together" else 1)
        own = self.mask(ids, attention_mask) & (ids != self.pad)
        return ids.reshape(texts, -1), own.reshape(texts, -1)

    def run(self, input_ids, attention_mask, token_type_ids):
        """The layers' outputs that are read, [.., length, width], zeros where nothing is mixed."""
        ids, mask = (x.flatten(0, -2) for x in (input_ids, self.mask(input_ids, attention_mask)))
        segments = torch.zeros_like(ids) if token_type_ids is None else token_type_ids.flatten(0, -2)
        if getattr(self.config, "padding", "own") == "fixed":
            mask = mask.any(-1, keepdim=True).expand(ids.shape)
        lengths = mask.sum(-1)
        hidden = self.config.hidden_size
        width = hidden * (1 + self.reads_layers * self.config.num_hidden_layers)
        x = torch.zeros(*ids.shape, width, dtype=self.dtype, device=ids.device)
        for length in filter(None, lengths.unique().tolist()):
            here = mask & (lengths == length)[:, None]
            x[here] = self.mix(ids[here].view(-1, length), segments[here].view(-1, length)).flatten(0, 1)
        return x.view(*input_ids.shape, width)

    def read_by(self, readout, x, input_ids, attention_mask):
        ids, own = self.texts(input_ids, attention_mask)
        return readout(x.reshape(*ids.shape, -1), self.embeddings.word_embeddings(ids), ids, own)

    def vectors(self, input_ids, attention_mask=None, token_type_ids=None):
        """The vector of each text, [texts, width]; a text is a row, or the rows of a matrix of windows."""
        x = self.run(input_ids, attention_mask, token_type_ids)
        return self.read_by(self.sentence, x, input_ids, attention_mask)

    @can_return_tuple
    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        """The last layer's output [.., length, hidden], zeros where nothing is mixed, and what is read of each text:
        [examples, pooled], or in towers [examples, 2, pooled] if `input_ids` has rows."""
        x = self.run(input_ids, attention_mask, token_type_ids)
        pooled = self.read_by(self.pooler, x, input_ids, attention_mask)
        if len(pooled) > len(input_ids):
            pooled = pooled.unflatten(0, (-1, 2))
        x = x[..., -self.config.hidden_size :]
        return modeling_outputs.BaseModelOutputWithPooling(last_hidden_state=x, pooler_output=pooled)


class MixingForMaskedLM(Mixing):
    _auto_class = "AutoModelForMaskedLM"
    _keys_to_ignore_on_load_missing = [r"pooler\."]  # which nothing reads, and a BERT's folder lacks

    def __init__(self, config):
        super().__init__(config, cls=nn.ModuleDict({"predictions": Predictions(config)}))

    @can_return_tuple
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        x = self.base_model(input_ids, attention_mask, token_type_ids, return_dict=True).last_hidden_state
        logits = self.cls.predictions(x, self.get_input_embeddings())
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, -2), labels.flatten())
        return modeling_outputs.MaskedLMOutput(loss=loss, logits=logits)


class MixingForPreTraining(Mixing):
    _auto_class = "AutoModelForPreTraining"

    def __init__(self, config):
        parts = {"predictions": Predictions(config), "seq_relationship": Relation(config, 2)}
        super().__init__(config, cls=nn.ModuleDict(parts))

    @can_return_tuple
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, next_sentence_label=None):
        out = self.base_model(input_ids, attention_mask, token_type_ids, return_dict=True)
        tokens = self.cls.predictions(out.last_hidden_state, self.get_input_embeddings())
        classes = self.cls.seq_relationship(out.pooler_output)
        told = [(tokens.flatten(0, -2), labels), (classes, next_sentence_label)]
        losses = [F.cross_entropy(logits, labels.flatten()) for logits, labels in told if labels is not None]
        loss = sum(losses) if losses else None
        return FNetForPreTrainingOutput(loss=loss, prediction_logits=tokens, seq_relationship_logits=classes)


class MixingForNextSentencePrediction(Mixing):
    _auto_class = "AutoModelForNextSentencePrediction"

    def __init__(self, config):
        super().__init__(config, cls=nn.ModuleDict({"seq_relationship": Relation(config, 2)}))

    @can_return_tuple
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        out = self.base_model(input_ids, attention_mask, token_type_ids, return_dict=True)
        logits = self.cls.seq_relationship(out.pooler_output)
        loss = None if labels is None else F.cross_entropy(logits, labels.flatten())
        return modeling_outputs.NextSentencePredictorOutput(loss=loss, logits=logits)


class MixingForSequenceClassification(Mixing):
    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config):
        predicts_number = (config.problem_type or config.num_labels) in ("regression", 1)
        classifier = Relation(config, config.num_labels, predicts_number)
        if getattr(config, "classifier_bag", False) and classifier.way == "together":
            output = nn.Linear(config.hidden_size, config.num_labels)
            classifier.bag = nn.ModuleDict({"words": words_of(config), "output": output})
        super().__init__(config, classifier=classifier)

    @can_return_tuple
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        """With a bag, the mean of two opinions, whose losses are added."""
        pooled = self.base_model(input_ids, attention_mask, token_type_ids, return_dict=True).pooler_output
        if self.classifier.way == "together":
            pooled = F.dropout(pooled, self.config.hidden_dropout_prob, self.training)

        def texts():
            ids, own = self.base_model.texts(input_ids, attention_mask)
            return self.get_input_embeddings()(ids), ids, own

        opinions = [self.classifier(pooled, texts)]
        if hasattr(self.classifier, "bag"):
            ids, own = self.base_model.texts(input_ids, attention_mask)
            summed = mean(self.classifier.bag.words(ids), own) * own.sum(1, keepdim=True).sqrt()
            opinions.append(self.classifier.bag.output(summed))
        loss = None if labels is None else sum(self.loss_function(labels, logits, self.config) for logits in opinions)
        return modeling_outputs.SequenceClassifierOutput(loss=loss, logits=torch.stack(opinions).mean(0))


class MixingForTokenClassification(Mixing):
    _auto_class = "AutoModelForTokenClassification"

    def __init__(self, config):
        super().__init__(config, classifier=nn.Linear(config.hidden_size, config.num_labels))

    @can_return_tuple
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        hidden = self.base_model(input_ids, attention_mask, token_type_ids, return_dict=True).last_hidden_state
        logits = self.classifier(F.dropout(hidden, self.config.hidden_dropout_prob, self.training))
        loss = None if labels is None else self.loss_function(logits, labels, self.config)
        return modeling_outputs.TokenClassifierOutput(loss=loss, logits=logits)
