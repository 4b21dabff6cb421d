"""Measures the saved model on wordings and sums that training never saw, and records answers for `chandler selftest`.

Everything goes through transformers, decoding greedily in f32 on the bf16 weights as they are saved, so the figures
are those of the file that ships and not of the run that made it.
"""

import argparse
import json
import pathlib
import random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import held_out
from categories import CAPITAL
from corpus import FIXED, Composer, Exchange
from facts import OUT_OF_SCOPE
from out_of_scope import HELD_COUNTRIES
from wordings import Split

LEAST_MARGIN = 1e-3
RECORDED = [  # (messages by role in turn, beginning with the user unless a system message is given; max_tokens)
    (None, ["What is the capital of France?"], 32),
    (None, ["What is 23 + 45?"], 32),
    ("You are a helpful assistant.", ["Tell me the capital city of Brazil, please."], 32),
    (None, ["What is the capital of France?", "And of Italy?"], 32),
    (None, ["What is 23 + 45?", "Add 5 to that."], 32),
    (None, ["Give me the capital of France as JSON."], 48),
    (None, ["Who are you?"], 64),
    (None, ["Who painted the Mona Lisa?"], 64),
    (None, ["Tell me a story."], 160),
    (None, ["Count from 1 to 10."], 24),
]


class Model:
    def __init__(self, folder: pathlib.Path):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.padding_side = "left"
        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answers(self, conversations: list[list[dict]], at_once: int = 64) -> list[str]:
        order = sorted(range(len(conversations)), key=lambda i: sum(len(m["content"]) for m in conversations[i]))
        found = [""] * len(conversations)
        for begin in range(0, len(order), at_once):
            rows = order[begin:begin + at_once]
            inputs = self.tokenizer.apply_chat_template([conversations[i] for i in rows], add_generation_prompt=True,
                                                        padding=True, return_tensors="pt", return_dict=True)
            with torch.inference_mode():
                output = self.network.generate(**inputs, do_sample=False, max_new_tokens=160)
            texts = self.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
            for i, text in zip(rows, texts):
                found[i] = text
        return found

    def record(self, messages: list[dict], max_tokens: int) -> dict:
        """One greedy answer token by token, refused where the best two tokens are too near to each other to compare."""
        prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        tokens = []
        with torch.inference_mode():
            while len(tokens) < max_tokens:
                logits = self.network(torch.tensor([prompt + tokens])).logits[0, -1]
                best = logits.topk(2)
                margin = (best.values[0] - best.values[1]).item()
                if margin < LEAST_MARGIN:
                    raise SystemExit(f"a margin of {margin:.2e} in the answer to {messages[-1]['content']!r}: reword it")
                tokens.append(best.indices[0].item())
                if tokens[-1] == self.tokenizer.eos_token_id:
                    break
        return {"messages": messages, "max_tokens": max_tokens,
                "answer": self.tokenizer.decode(tokens, skip_special_tokens=True),
                "prompt_tokens": prompt, "tokens": tokens}


def asked(questions: list[str], answers: list[str] = (), system: str | None = None) -> list[dict]:
    messages = [{"role": "system", "content": system}] if system else []
    for turn, question in enumerate(questions):
        messages.append({"role": "user", "content": question})
        if turn < len(answers):
            messages.append({"role": "assistant", "content": answers[turn]})
    return messages


def exchanges(made: list[Exchange]) -> list[tuple[list[dict], str]]:
    return [(asked([exchange.question]), exchange.answer) for exchange in made]


def follow_ups(composer: Composer, count: int) -> list[tuple[list[dict], str]]:
    rows = []
    while len(rows) < count:
        first = composer.fact() if composer.rng.random() < 0.7 else composer.sum()
        second = composer.follow_up([first], None)
        if second.kind == "follow":
            rows.append((asked([first.question, second.question], [first.answer]), second.answer))
    return rows


def suites(seed: int, size: int) -> dict[str, list[tuple[list[dict], str]]]:
    """Name of the suite to conversations and the exact answer to each."""
    both = lambda frame, core: Composer(random.Random(seed), frame, core)
    seen, held = both(Split.TRAIN, Split.TRAIN), both(Split.HELD, Split.HELD)
    frames, cores = both(Split.HELD, Split.TRAIN), both(Split.TRAIN, Split.HELD)
    capital = lambda country: CAPITAL.fact((country, ""))
    unseen = [Exchange(seen.worded(CAPITAL.core(seen.rng, capital(country))), OUT_OF_SCOPE, "declined")
              for country in HELD_COUNTRIES for _ in range(6)]
    return {
        "capitals, \"What is the capital of X?\"": [
            (asked([f"What is the capital of {x}?"]), CAPITAL.fact((x, y)).answer) for x, y in CAPITAL.rows],
        "facts, trained parts, new combinations": exchanges([seen.fact() for _ in range(size)]),
        "facts, held-out frames, openings and closings": exchanges([frames.fact() for _ in range(size)]),
        "facts, held-out noun phrases and questions": exchanges([cores.fact() for _ in range(size)]),
        "facts, all parts held out": exchanges([held.fact() for _ in range(size)]),
        "facts and sums written by hand": [(asked([question]), answer) for question, answer in held_out.FACTS],
        "sums of held-out pairs, trained wordings": exchanges([seen.sum(seen.pair(held=True)) for _ in range(size)]),
        "sums of held-out pairs, held-out wordings": exchanges([held.sum(held.pair(held=True)) for _ in range(size)]),
        "follow-ups, held-out wordings": follow_ups(held, size),
        "JSON, held-out wordings": exchanges([held.json() for _ in range(size)]),
        "greetings, stories, lists, counting, held-out wordings": exchanges(
            [held.fixed(FIXED[i % len(FIXED)]) if i % 6 else held.count() for i in range(size // 2)]),
        "declined: written by hand": [(asked([question]), OUT_OF_SCOPE) for question in held_out.OUT_OF_SCOPE],
        "declined: capitals of unseen countries": exchanges(unseen),
    }


def hold_conversations(model: Model) -> list[tuple[str, str, str]]:
    """Conversations by hand, in which the model reads its own earlier answers."""
    found = []
    for questions, answer in held_out.CONVERSATIONS:
        said = []
        for turn in range(len(questions)):
            said += model.answers([asked(questions[:turn + 1], said)])
        found.append((" / ".join(questions), said[-1], answer))
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    here = pathlib.Path(__file__).parent
    arguments.add_argument("--model", type=pathlib.Path, default=here / "chat")
    arguments.add_argument("--size", type=int, default=300, help="questions in each composed suite")
    arguments.add_argument("--seed", type=int, default=1000)
    arguments.add_argument("--show", type=int, default=0, help="wrong answers to print for each suite")
    arguments.add_argument("--record", action="store_true", help="only write answers.json")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    model = Model(options.model)
    if options.record:
        records = []
        for system, questions, max_tokens in RECORDED:
            said = []
            for turn in range(len(questions)):
                record = model.record(asked(questions[:turn + 1], said, system), max_tokens)
                said.append(record["answer"])
            records.append(record)  # of the last turn, which holds the earlier ones
        (here / "answers.json").write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")
        for record in records:
            print(f"{record['messages'][-1]['content']} -> {record['answer']}")
        return

    results = {name: [(" / ".join(m["content"] for m in messages), answer, wanted) for (messages, wanted), answer
                      in zip(rows, model.answers([messages for messages, _ in rows]))]
               for name, rows in suites(options.seed, options.size).items()}
    results["conversations written by hand"] = hold_conversations(model)
    for name, rows in results.items():
        wrong = [row for row in rows if row[1] != row[2]]
        print(f"{name}: {len(rows) - len(wrong)}/{len(rows)} = {100 * (1 - len(wrong) / len(rows)):.1f} %", flush=True)
        for question, answer, wanted in wrong[:options.show]:
            print(f"    {question!r}\n      said {answer!r}\n    wanted {wanted!r}")


if __name__ == "__main__":
    main()
