"""What a category of questions is: a table of facts, the wordings that ask for one, and the sentence that answers.

Apart from the categories themselves, which are word lists.
"""

import dataclasses
import random

from wordings import NOUN_FRAMES, QUESTION_FRAMES, Split, choose, parts

EMBEDDED_FRAMES = parts("""
tell me {e}.
do you know {e}?
can you tell me {e}?
could you say {e}?
i want to know {e}.
i wonder {e}.
please tell me {e}.
please say {e}.
could you tell me {e}?
would you tell me {e}?
will you tell me {e}?
i need to know {e}.
i'd like to know {e}.
i do not know {e}.
i forgot {e}.
i was asked {e}.
i am not sure {e}.
i have no idea {e}.
i would love to learn {e}.
do you remember {e}?
can you remember {e}?
can you explain {e}?
let me know {e}.
remind me {e}.
explain {e}.
say {e}.
write {e}.
have you any idea {e}?
any idea {e}?
tell us {e}.
guess {e}.
my friend asks {e}.
who knows {e}?
the question is {e}.
---
i am trying to find out {e}.
would you happen to know {e}?
""")


@dataclasses.dataclass(frozen=True)
class Fact:
    """One thing the model knows, as sentences: what is asked for, and the answer."""
    category: str
    subject: str
    asked: str  # how a question spells the subject (an alias, perhaps)
    value: str
    answer: str
    topic: str  # what "What did I ask about?" is answered with
    json: str | None = None


class Category:
    """Wordings with `{x}` for the subject, training and held out, and the sentence that answers them."""

    def __init__(self, name, rows, answer, topic, nouns="", questions="", embedded="", json=None, aliases=None,
                 pieces=None):
        self.name, self.rows, self.answer, self.topic, self.json = name, rows, answer, topic, json
        self.nouns, self.questions, self.embedded = parts(nouns), parts(questions), parts(embedded)
        self.aliases = aliases or {}
        self.pieces = pieces or (lambda subject: {})  # further slots that follow from the subject

    def fact(self, row, rng: random.Random | None = None) -> Fact:
        x, y = row
        asked = x
        if rng and x in self.aliases and rng.random() < 0.4:
            asked = rng.choice(self.aliases[x])
        # The name of a thing stands without its article in JSON.
        bare = x.removeprefix("the ")
        fill = lambda template: template.format(x=x, y=y, bare=bare)
        answer = fill(self.answer).replace("..", ".")  # "Washington, D.C." ends a sentence by itself
        return Fact(self.name, x, asked, y, answer[0].upper() + answer[1:], fill(self.topic),
                    self.json and fill(self.json))

    def core(self, rng: random.Random, fact: Fact, frame_split=Split.TRAIN, core_split=Split.TRAIN) -> str:
        """A bare wording. A held-out frame and a held-out core may be asked for apart or together."""
        pools = [("noun", self.nouns), ("question", self.questions), ("embedded", self.embedded)]
        pools = [(kind, lists) for kind, lists in pools if lists[core_split.value]]
        weights = [{"noun": 5, "question": 4, "embedded": 1}[kind] for kind, _ in pools]
        kind, lists = rng.choices(pools, weights)[0]
        inner = choose(rng, lists, core_split).format(x=fact.asked, **self.pieces(fact.subject))
        if kind == "noun":
            return choose(rng, NOUN_FRAMES, frame_split).format(np=inner)
        if kind == "embedded":
            return choose(rng, EMBEDDED_FRAMES, frame_split).format(e=inner)
        return choose(rng, QUESTION_FRAMES, frame_split).format(q=inner)
