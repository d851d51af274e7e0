"""Text unrelated to the tasks: to train the tokenizers, and as small talk.

Small talk teaches a tiny model to answer other questions, without help, and to write the phrases of
every style: a large model knows the words that another one uses.
"""

from __future__ import annotations

from random import Random

from tessy.lab.styles import STYLES

SENTENCES = (
    "The train leaves the station early in the morning and arrives late at night.",
    "A farmer has some apples and gives half of them to his neighbors.",
    "How many hours does it take to walk from the house to the river and back?",
    "She bought three books, two pencils, and a small box for her sister.",
    "Given an array of integers, print the sum of all its elements.",
    "The first line of the input contains a single integer, the number of test cases.",
    "For each test case, output one line with the answer.",
    "Write a function that returns the length of the longest common prefix.",
    "It is known that every graph with these properties has a path between the two points.",
    "If the price goes up by ten percent, how much money will he need every week?",
    "There are twice as many students in the second class as in the first one.",
    "Each day the hens lay eggs, which she sells at the market for two dollars each.",
    "Please explain the difference between the two methods and give an example.",
    "You can use the following code: for i in range(n): print(i, end=' ')",
    "def main():\n    n = int(input())\n    return n\n",
    "Let x be a real number such that f(x) = x + y and \\frac{x}{y} is positive.",
    "What would you like to know about the history of the city?",
    "The total cost is the number of tickets times the price of one ticket.",
    "When it rains, the children stay inside and play with their friends.",
    "Note that the output should not contain any other characters.",
    "We have to find the minimum time that is needed to do all of the jobs.",
    "He said that this was only a part of the work they had done before.",
    "Because some people could not come, the meeting was moved to another day.",
    "What are the most important things that you would tell someone about your country?",
    "I have never been there, but my brother told me that the food is very good.",
    "The dog ran over the hill, through the field, and down to the water.",
    "Return true if and only if the string can be made empty by these operations.",
    "After they had finished their lunch, they went for a long walk under the trees.",
    "Under which conditions does the sequence converge, and what is its limit?",
    "Could you write me a short story about a ship and the sea?",
)

ANSWERS = ("I do not know.", "Sorry, I cannot help with that.", "I can only work with digits.")

SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer the question.", "Think step by step.")


def small_talk(rng: Random, *, results: bool = False) -> tuple[str, str, str]:
    """Return a question unrelated to the tasks, thinking in phrases of every style, and an answer.

    With ``results``, the thinking may state a result in any style. The answer then repeats it: a
    random one would unlearn to answer what the thinking found.
    """
    question = " ".join(rng.sample(SENTENCES, rng.randint(1, 2)))
    stated = _stated(rng) if results else []
    pieces = []
    for _ in range(rng.randint(2, 6)):
        draw = rng.random()
        if draw < 0.15:
            pieces.append(rng.choice(SENTENCES).strip())
        elif stated and draw < 0.3:
            pieces.append(rng.choice(stated))
        else:
            pieces.append(rng.choice(rng.choice(STYLES).phrases))
    thinking = pieces[0]
    for piece in pieces[1:]:
        thinking += (" " if rng.random() < 0.7 else "\n") + piece
    answers = ANSWERS if set(stated).isdisjoint(pieces) else stated
    return question, thinking, rng.choice(answers)


def _stated(rng: Random) -> list[str]:
    """Return a random digit or list as the answer in each style."""
    digits = [str(rng.randrange(10)) for _ in range(rng.choice((1, 1, 3, 4, 5)))]
    return [style.answer.format(", ".join(digits)) for style in STYLES]
