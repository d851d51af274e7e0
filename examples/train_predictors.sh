#!/usr/bin/env bash
# Boundary predictors for your own pair of models: from questions to a training set made with them.
# Without any settings it takes the bundled tiny models, in this process: some minutes.
# For models of your own start their servers first (examples/synthesize.toml says with which
# options) and, to mark the style, one with a chat endpoint for any strong model:
#
#   vllm serve Qwen/Qwen3-8B --port 8001 …
#   vllm serve openai/gpt-oss-120b --port 8002 …
#   vllm serve Qwen/Qwen3-32B --port 8003
#
#   STUDENT=Qwen/Qwen3-8B         STUDENT_URL=http://127.0.0.1:8001 \
#   TEACHER=openai/gpt-oss-120b   TEACHER_URL=http://127.0.0.1:8002 \
#   ANNOTATOR=Qwen/Qwen3-32B      ANNOTATOR_URL=http://127.0.0.1:8003 \
#   PROBLEMS=questions.jsonl OUT=runs/qwen3-8b-predictors examples/train_predictors.sh
# It can be interrupted at any time and resumed by the same command; only a training or an evaluation starts again.
set -euo pipefail

OUT=${OUT:-runs/predictors} # everything is written below this folder
[[ $OUT != *[,+]* ]] || { echo "OUT=$OUT: no , or + please, they part the names of predictors" >&2; exit 2; }
if [[ -z ${STUDENT:-}${TEACHER:-} ]]; then # no models named: the bundled ones think briefly and learn fast
    bundled() { python -c "from tessy.lab import bundled; print(bundled.$1_path())"; }
    STUDENT=$(bundled student) TEACHER=$(bundled teacher)
    BASE=${BASE:-$STUDENT}
    LENGTHS=${LENGTHS:---thinking-tokens 600 --answer-tokens 64}
    TRAINING=${TRAINING:---learning-rate 3e-3 --test-share 0.1}
fi
if [[ -z ${PROBLEMS:-} ]]; then
    mkdir -p "$OUT" && PROBLEMS=$OUT/questions.jsonl
    python -m tessy.lab.questions "$PROBLEMS" --count 3000 # what the bundled models know
fi
: "${STUDENT:?name both models}" "${TEACHER:?name both models}"
read -ra fields <<<"${FIELDS:+--fields $FIELDS} ${LIMIT:+--limit $LIMIT}" # e.g. FIELDS="prompt=question"
questions=(--problems "$PROBLEMS" "${fields[@]}")
read -ra lengths <<<"${LENGTHS:-}"   # as options, e.g. --thinking-tokens 8000 --answer-tokens 2000
read -ra training <<<"${TRAINING:-}" # options of train-predictor, e.g. --epochs 2
if [[ -n ${ANNOTATOR:-} ]]; then
    annotator=(--model "$ANNOTATOR" --url "${ANNOTATOR_URL:?give the URL of its server}")
else
    annotator=(--rule tessy.lab.marker:mark)
    echo "no ANNOTATOR: a rule marks the style; it knows the phrases of the bundled models and no others" >&2
fi

# 1 to 3, for each of the two: its own responses, the style in them, a predictor that knows it.
make_predictor() { # author, model, its tokenizer, its URLs (none: it runs in this process)
    tessy sample --author "$1" --model "$2" --tokenizer "$3" --url "$4" \
        "${questions[@]}" "${lengths[@]}" --out "$OUT/$1-responses"
    tessy annotate --responses "$OUT/$1-responses" "${annotator[@]}" --out "$OUT/$1-annotations"
    [[ ! -e $OUT/$1-predictor ]] || # annotations may have come since it was made
        { echo "$OUT/$1-predictor is kept; remove it to train it again" >&2 && return; }
    tessy train-predictor --annotations "$OUT/$1-annotations" --base "${BASE:-Qwen/Qwen3-0.6B-Base}" \
        "${training[@]}" --out "$OUT/$1-predictor"
}
student_tokenizer=${STUDENT_TOKENIZER:-$STUDENT} teacher_tokenizer=${TEACHER_TOKENIZER:-$TEACHER}
make_predictor student "$STUDENT" "$student_tokenizer" "${STUDENT_URL:-}"
make_predictor teacher "$TEACHER" "$teacher_tokenizer" "${TEACHER_URL:-}"

# 4: how well they cut, the pair beside what needs no training: look at evaluation.svg now.
ours=$OUT/student-predictor+$OUT/teacher-predictor
for author in student teacher; do
    tessy evaluate-predictor --annotations "$OUT/$author-annotations" \
        --predictor "$ours,lexicon,sentence" --out "$OUT/$author-evaluation"
done

# What it was for: samples that both models write, each cut by its own predictor.
tessy synthesize "${questions[@]}" "${lengths[@]}" --out "$OUT/samples" \
    --student.model "$STUDENT" --student.tokenizer "$student_tokenizer" \
    --student.url "${STUDENT_URL:-}" --student.predictor "$OUT/student-predictor" \
    --teacher.model "$TEACHER" --teacher.tokenizer "$teacher_tokenizer" \
    --teacher.url "${TEACHER_URL:-}" --teacher.predictor "$OUT/teacher-predictor"
