"""The chat templates and conversations that fixture_chat.py renders: data, no code that runs transformers.

The templates are this project's own; between them they call what the templates of real checkpoints call.
"""

PLAIN = [
    {"role": "system", "content": "You keep the light. "},
    {"role": "user", "content": "  How long does a candle burn?\n"},
    {"role": "assistant", "content": "About four hours."},
    {"role": "user", "content": "And <b>two</b> & \"more\"? 蜡烛 🕯️"},
]
NO_SYSTEM = PLAIN[1:]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_tide",
            "description": "Tide at a harbour, in mètres <up> & 'down'. 潮汐 🌊",
            "parameters": {
                "type": "object",
                "properties": {
                    "harbour": {"type": "string", "description": "its name", "enum": ["Brest", "Saint-Malo", "横浜"]},
                    "hours": {"type": "integer", "default": 6},
                    "exact": {"type": ["boolean", "null"]},
                },
                "required": ["harbour"],
            },
        },
    },
    {"type": "function", "function": {"name": "ring_bell", "description": "Rings.", "parameters": {"type": "object", "properties": {}}}},
]
CALLS = [
    {"role": "user", "content": "Tide in 横浜?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call00001", "type": "function", "function": {"name": "get_tide", "arguments": {"harbour": "横浜", "hours": 12, "exact": True, "note": None}}},
            {"id": "call00002", "type": "function", "function": {"name": "ring_bell", "arguments": "{\"times\": 2}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call00001", "name": "get_tide", "content": "{\"metres\": 1.5}"},
    {"role": "tool", "tool_call_id": "call00002", "name": "ring_bell", "content": "done"},
    {"role": "assistant", "content": "<think>\nIt rose.\n</think>\n\nThe tide is 1.5 m."},
    {"role": "user", "content": "Thanks."},
]
PARTS = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "image"}, {"type": "text", "text": "this? "}]},
    {"role": "assistant", "content": "A wick."},
    {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
]

HEADERS = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 1970" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system text is taken out first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Runs: ipython\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 and not many %}
            {{- raise_exception("Only one tool call at a time, not " ~ message.tool_calls | length) }}
        {%- endif %}
        {%- for call in message.tool_calls %}
            {%- set f = call.function %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
            {{- '{"name": "' + f.name + '", ' }}
            {{- '"parameters": ' }}
            {{- f.arguments if f.arguments is string else f.arguments | tojson }}
            {{- "}" }}
            {{- "<|eot_id|>" }}
        {%- endfor %}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

TURNS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or reasoning) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

BRACKETS = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("after the optional system message, roles must alternate user/assistant/user/assistant") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if system_message is defined and (message == user_messages[-1]) %}
            {{- "[ASK] " + system_message + "\\n\\n" + message["content"] + "[/ASK]" }}
        {%- else %}
            {{- "[ASK] " + message["content"] + "[/ASK]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
"""

PARTS_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '</turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<turn>model\\n'}}
{%- endif -%}
"""

MACROS = """{%- macro kind(spec, depth=0) -%}
    {%- if spec.type is string -%}
        {{- spec.type -}}
    {%- elif spec.type is iterable and spec.type is not mapping -%}
        {{- spec.type | join(" | ") -}}
    {%- else -%}
        any
    {%- endif -%}
    {%- if spec.enum %} /* {{ spec.enum | map('upper') | join(', ') }} */{% endif -%}
{%- endmacro -%}
{%- macro signature(tool) %}
type {{ tool.name }} = (_: {
    {%- for name, spec in tool.parameters.properties.items() %}
        {%- set required = name in tool.parameters.get('required', []) %}
  {{ name }}{{ '' if required else '?' }}: {{ kind(spec) }}
        {%- if spec.default is defined %} = {{ spec.default }}{% endif %}
        {{- ',' if not loop.last }}
    {%- endfor %}

}) => any; // {{ tool.description | default('nothing', true) }}
{% endmacro -%}
{{ bos_token }}{% for tool in tools | map(attribute='function') %}{{ signature(tool) }}{% endfor %}
{% for key, value in tools[0].function.parameters | items if key != 'type' %}
{{ loop.index }}/{{ loop.length }} {{ key }}: {{ value | tojson }}
{% endfor %}
{% set names %}{% for tool in tools %}{{ tool.function.name }}{% if not loop.last %}+{% endif %}{% endfor %}{% endset %}
names={{ names | upper }} first={{ (tools | first).function.name }} last={{ (tools | last)['function']['name'] }}
sorted={{ tools[0].function.parameters.properties | dictsort | map('first') | join(',') }}
{%- for role in messages | map(attribute='role') | unique | list %} {{ role }}{% endfor %}
"""

METHODS = """{% for message in messages %}
{% set text = message.content %}
[{{ loop.index }}|{{ loop.index0 }}|{{ loop.revindex }}|{{ loop.first }}|{{ loop.last }}] {{ message.role.title() }} {{ message['role'].upper() }} {{ message.role | capitalize }} {{ text.lower() | trim }}
prev={{ loop.previtem.role if loop.previtem is defined else 'none' }} next={{ loop.nextitem.role | default('none') if not loop.last else 'none' }} cycle={{ loop.cycle('a', 'b') }}
{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip('\\n') }}|{{ text.replace('candle', 'lamp') }}|{{ text.replace('a', 'A', 1) }}
{{ text.split() | length }} {{ text.strip().split(' ')[0] }} {{ text.split()[-1] }} {{ text.strip().split(' ', 1)[-1] }} {{ text.find('o') }} {{ text.count('o') }}
{{ text.startswith('  How') }} {{ text.endswith('hours.') }} {{ 'candle' in text }} {{ 'tallow' not in text }} {{ text[2:5] }} {{ text[:-1] | length }} {{ text[::-1][:4] }} {{ text.strip()[-1] }}
{% endfor %}
{{ 'wax-and-wick'.split('-') | join('+') }} {{ ', '.join(['a', 'b']) }} {{ 'a b'.title() ~ '!' ~ 3 }} {{ 'abc'.capitalize() }} {{ '7'.isdigit() }} {{ 'aXbXc'.rsplit('X', 1)[0] }} {{ 'x\\ny'.splitlines() | length }}
{{ 'pre:rest'.removeprefix('pre:') }} {{ 'file.txt'.removesuffix('.txt') }} {{ 'Abc'.lower() == 'abc' and 'abc'.islower() }} {{ '%s has %d' | format('wax', 3) }}
{{ {'a': 1}.get('b', 'fallback') }} {{ {'a': 1, 'b': 2}.keys() | list | join(',') }} {{ {'a': 1, 'b': 2}.values() | sum }} {% for k, v in {'z': 1, 'y': 2}.items() %}{{ k }}={{ v }};{% endfor %}
"""

PRINTS = """{{ true }} {{ false }} {{ none }} {{ [1, 'two', 3.0, true, none] }} {{ {'a': 'b', 'c': [1]} }} {{ ('x', 1) }}
{{ 7 // 2 }} {{ 7 / 2 }} {{ 8 / 2 }} {{ -7 % 3 }} {{ 2 ** 3 }} {{ 1.0 }} {{ 1.5e3 }} {{ '3' | int + 1 }} {{ 'it\\'s' }} {{ ["it's"] }} {{ missing }}|{{ messages[0].missing }}|
"""

WHITESPACE = """  {% if true %}
  kept indent
    {% endif %}
{% for i in range(3) %}
    {{ i }}
{% endfor %}
	{# a comment alone on its line #}
{%+ if true %}plus keeps the front{% endif +%}
next
{{ "a" -}}
   {{- "b" }}

   {% raw %}{{ raw }}{% endraw %}

{% set x = 1 %}{% if x == 1 -%}   trimmed   {%- endif %}
end

"""

JSON = """{% for value in values %}
{{ value | tojson }}
{% endfor %}
{{ nested | tojson(indent=2) }}
{{ nested | tojson(indent=4) }}
{{ nested | tojson(separators=(',', ':')) }}
{{ nested | tojson(sort_keys=true) }}
{{ nested | tojson(ensure_ascii=true) }}
{{ messages | tojson }}
"""

CONTROL = """{% for message in messages %}
{% if message.role == 'system' %}{% continue %}{% endif %}
{% if loop.index > 3 %}{% break %}{% endif %}
{% set outer = loop.index %}
{% for word in message.content.split() %}{% if loop.index0 is odd %}{% continue %}{% endif %}{{ outer }}.{{ word }} {% endfor %}

{% else %}
nothing
{% endfor %}
{% for x in [] %}never{% else %}empty{% endfor %}
{% for n in range(2, 11, 4) if n is not divisibleby(5) %}{{ n }},{% endfor %}
{% with half = messages | length // 2 %}{{ half }}{% endwith %}
{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | map('trim') | join('|') }}
{{ messages | selectattr('name', 'defined') | list | length }} {{ (messages | last).role }} {{ messages | map(attribute='role') | reverse | join(',') }}
{% set ns = namespace(found=false, count=0, seen=[]) %}
{% for message in messages %}{% if message.role == 'user' %}{% set ns.count = ns.count + 1 %}{% set ns.seen = ns.seen + [loop.index] %}{% endif %}{% endfor %}
{{ ns.count }} {{ ns.seen | join('-') }} {{ 'yes' if ns.found else 'no' }}{{ ' unseen' if false }}
"""

GENERATION = """{% for message in messages %}
{% if message.role == 'assistant' %}
<|{{ message.role }}|>
{% generation %}
{{ message.content }}{{ eos_token }}
{% endgeneration %}
{% else %}
<|{{ message.role }}|>
{{ message.content | trim }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}
"""

GENERATION_TRIMMED = GENERATION.replace("{% generation %}", "{%- generation %}").replace("{% endgeneration %}", "{%- endgeneration -%}")

DEFINED = """{{ tools is defined }} {{ tools is none }} {{ documents is none }} {{ bos_token is defined }} {{ pad_token is defined }} {{ eos_token }} {{ add_generation_prompt }}
{{ extra is defined }} {{ extra | default('unset') }} {{ level }} {{ options.depth }} {{ options['depth'] is number }} {{ flag is true }} {{ flag is boolean }} {{ names is sequence }} {{ options is mapping }} {{ 'x' is string }} {{ names is not none }}
{{ strftime_now('%%') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%B %A %H:%M:%S') }}
{{ messages[1].content is defined }} {{ 'content' in messages[1] }} {{ messages[1].reasoning_content }} {{ messages[1].thinking }}
"""


def case(name, chat_template, messages, **rest):
    return {"name": name, "chat_template": chat_template, "messages": messages, "bos_token": "<s>", "eos_token": "</s>", **rest}


REASONED = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": None, "reasoning": "Because wax melts."}]
STRINGS_AND_NUMBERS = {
    "values": ["é 蜡 🕯️ <a href='x'>&\"</a>", "tab\tline\nbell\u0007del\u007f\u2028", 1, 1.0, -0.5, 0.1, 1e-7, 1e16, 1e15, 123456789012, True, None, [], {}, [[]], "\\/"],
    "nested": {"z": [1, {"y": "ü"}], "a": {}, "m": [], "b": {"d": None, "c": False}},
}

CASES = [
    case("headers-plain", HEADERS, PLAIN, add_generation_prompt=True),
    case("headers-no-system-with-date", HEADERS, NO_SYSTEM, kwargs={"date_string": "26 Jul 2024"}),
    case("headers-tools", HEADERS, CALLS, tools=TOOLS, add_generation_prompt=True, kwargs={"many": True}),
    case("headers-raises", HEADERS, CALLS, tools=TOOLS),
    case("turns-tools", TURNS, CALLS, tools=TOOLS, add_generation_prompt=True),
    case("turns-thinking-off", TURNS, PLAIN, add_generation_prompt=True, kwargs={"enable_thinking": False}),
    case("turns-reasoning-last", TURNS, CALLS[:5]),
    case("turns-continue", TURNS, PLAIN[:2] + [{"role": "assistant", "content": "Well, about "}], continue_final_message=True),
    case("brackets-system", BRACKETS, PLAIN),
    case("brackets-raises", BRACKETS, PLAIN[:2] + PLAIN[3:]),
    case("brackets-continue-trimmed", BRACKETS, PLAIN[:2] + [{"role": "assistant", "content": "About four  "}], continue_final_message=True),
    case("parts", PARTS_TEMPLATE, PARTS, add_generation_prompt=True),
    case("parts-raises", PARTS_TEMPLATE, [{"role": "user", "content": 5}]),
    case("macros", MACROS, PLAIN, tools=TOOLS),
    case("string-methods", METHODS, PLAIN),
    case("whitespace", WHITESPACE, PLAIN),
    case("json", JSON, PLAIN, kwargs=STRINGS_AND_NUMBERS),
    case("control", CONTROL, PLAIN),
    case("generation", GENERATION, PLAIN, add_generation_prompt=True),
    case("generation-trimmed", GENERATION_TRIMMED, PLAIN),
    case("defined", DEFINED, REASONED, kwargs={"level": 3, "options": {"depth": 2}, "flag": True, "names": ["a"]}),
    case("prints-python-values", PRINTS, PLAIN),
    case("undefined-attribute", "{{ messages[9].content }}", PLAIN),
    case("no-bos", "{{ bos_token }}|{{ bos_token is defined }}|{{ messages[0].content }}", PLAIN, bos_token=None),
    case("named-default", [{"name": "default", "template": BRACKETS}, {"name": "tool_use", "template": TURNS}], PLAIN),
    case("named-tool-use", [{"name": "default", "template": BRACKETS}, {"name": "tool_use", "template": TURNS}], PLAIN, tools=TOOLS[1:]),
]
