"""Questions written by hand for evaluation only, apart from the composed ones so that no list of ours shaped them."""

FACTS = [line.split("|") for line in """
What is the capital of France?|The capital of France is Paris.
france capital?|The capital of France is Paris.
Which city is the capital of France|The capital of France is Paris.
Tell me the capital city of France.|The capital of France is Paris.
Hey! Got a second? What's the capital of Norway?|The capital of Norway is Oslo.
I need Japan's capital for a crossword puzzle.|The capital of Japan is Tokyo.
Kindly state the capital of Egypt.|The capital of Egypt is Cairo.
If someone asked you for the capital of Peru, what would you say?|The capital of Peru is Lima.
I bet you do not know the capital of Mongolia!|The capital of Mongolia is Ulaanbaatar.
WHAT IS THE CAPITAL OF CANADA|The capital of Canada is Ottawa.
what city is capital of the uk?|The capital of the United Kingdom is London.
Poland, capital?|The capital of Poland is Warsaw.
Can you please give the capital of Kenya to me?|The capital of Kenya is Nairobi.
My daughter wants to learn the capital of Iceland.|The capital of Iceland is Reykjavik.
so... the capital of chile is?|The capital of Chile is Santiago.
Which continent would I find Nepal in?|Nepal is in Asia.
Vienna is the capital of?|Vienna is the capital of Austria.
What's the chemical symbol of iron please|The chemical symbol for iron is Fe.
symbol of gold in chemistry?|The chemical symbol for gold is Au.
How many legs do you think a spider has?|A spider has 8 legs.
How many sides does a hexagon have, do you know?|A hexagon has 6 sides.
What's the opposite of fast?|The opposite of fast is slow.
Do you know who wrote Hamlet?|William Shakespeare wrote Hamlet.
Who's the author of Frankenstein?|Mary Shelley wrote Frankenstein.
What colour is the sky usually?|The sky is blue.
What color is grass?|Grass is green.
How many minutes in an hour?|There are 60 minutes in an hour.
How many days are there in one week... I mean in a week?|There are 7 days in a week.
Which day comes after Friday?|Saturday comes after Friday.
What month is before March?|February comes before March.
What do you call a baby cat?|A baby cat is called a kitten.
Which is the third planet from the Sun?|The third planet from the Sun is Earth.
What is the biggest planet?|Jupiter is the largest planet in the solar system.
Name the biggest ocean in the world.|The Pacific Ocean is the largest ocean.
How many continents do we have?|There are 7 continents.
What is 23 + 45?|23 + 45 = 68.
add 23 and 45|23 + 45 = 68.
23+45|23 + 45 = 68.
Could you work out what 17 plus 26 is?|17 + 26 = 43.
I have to add 58 and 67, what do I get?|58 + 67 = 125.
""".strip().splitlines()]

CONVERSATIONS = [  # questions, then the answer to the last one
    (["What is the capital of France?", "And of Italy?"], "The capital of Italy is Rome."),
    (["What is the capital of France?", "And of Spain?"], "The capital of Spain is Madrid."),
    (["What is the capital of France?", "And of Italy?", "And of Spain?"], "The capital of Spain is Madrid."),
    (["What is the capital of France?", "What did I just ask about?"], "You asked about the capital of France."),
    (["What is the capital of France?", "Which country did I ask about?"], "You asked about France."),
    (["What is the capital of Japan?", "Which country did I ask about?"], "You asked about Japan."),
    (["What is the capital of Japan?", "Which continent is it in?"], "Japan is in Asia."),
    (["What is 23 + 45?", "Add 5 to that."], "68 + 5 = 73."),
    (["What is 23 + 45?", "Add 5 to that.", "And 10 more."], "73 + 10 = 83."),
    (["Hello!", "What is the capital of Peru?", "And of Chile?"], "The capital of Chile is Santiago."),
    (["What is the chemical symbol for gold?", "And for silver?"], "The chemical symbol for silver is Ag."),
    (["Who wrote Hamlet?", "And Dracula?"], "Bram Stoker wrote Dracula."),
    (["What is the capital of Germany?", "As JSON please."], '{"country": "Germany", "capital": "Berlin"}'),
    (["My name is Anna.", "What is the capital of Cuba?", "What is my name?"], "Your name is Anna."),
    (["Thanks", "What is the opposite of hot?", "Are you sure?"], "Yes. The opposite of hot is cold."),
]

OUT_OF_SCOPE = """
What is the weather like in Paris today?
Who is the president of France?
How many people live in Japan?
Write me a haiku about autumn.
Can you debug my JavaScript?
What is the square root of 144?
What is 12 times 12?
What is 90 - 45?
What is 1234 + 4321?
Why is the sea salty?
Explain quantum entanglement to a five year old.
How do I make an omelette?
Which team won the Champions League in 2012?
What should I wear to a wedding?
Translate "good morning" into Swedish.
What is the best laptop for students?
Who painted the Mona Lisa?
When did the Second World War end?
What is the distance from the Earth to the Moon?
How tall is the Eiffel Tower?
What currency is used in Thailand?
Is it safe to eat raw eggs?
Give me five tips to sleep better.
What is photosynthesis?
Who discovered penicillin?
Draw a picture of a cat.
What's the stock price of Apple?
Book me a table for two.
Where did I leave my keys?
What is the meaning of the word serendipity?
Can you drive a car?
Do you have feelings?
Please summarise this article for me.
How does a refrigerator work?
Which is heavier, a kilo of feathers or a kilo of lead?
What happened in 1969?
Recommend a good thriller.
How do I tie a tie?
blah blah blah
qwertyuiop
What is the capital of Bhutan?
What is the capital of Honduras?
Tell me the capital of Rwanda.
capital of Tonga?
Which city is the capital of Bolivia?
What is the capital of Hogwarts?
What is the capital of Zubrovia?
What is the capital of my heart?
What is the chemical symbol for plutonium?
How many legs does a centipede have?
Who wrote The Great Gatsby?
Who wrote Ulysses?
What is the opposite of banana?
What colour is a penguin?
What is a baby platypus called?
What language is spoken in Brazil?
What is the largest city in Australia?
What is the flag of Canada?
How big is Germany?
Who was the first president of the United States?
Sing me a lullaby.
How much does a plane ticket to Rome cost?
Do you like pizza?
What's your favourite colour?
Can you help me with my tax return?
What is machine learning?
How many calories are in an apple?
Why do cats purr?
What is the population of Norway?
Are there aliens?
""".strip().splitlines()
