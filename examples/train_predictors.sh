#!/usr/bin/env bash
# Train boundary predictors for your own pair of models, and synthesize samples with them.
# Without any settings, it uses the bundled tiny models in this process and takes some minutes.
# For your own models, first start their servers (with the flags in examples/synthesize.toml) and,
# for annotation, the chat server of a strong model:
#
#   vllm serve Qwen/Qwen3-8B --port 8001 …
#   vllm serve openai/gpt-oss-120b --port 8002 …
#   vllm serve Qwen/Qwen3-32B --port 8003
#
#   STUDENT=Qwen/Qwen3-8B         STUDENT_URL=http://127.0.0.1:8001 \
#   TEACHER=openai/gpt-oss-120b   TEACHER_URL=http://127.0.0.1:8002 \
#   ANNOTATOR=Qwen/Qwen3-32B      ANNOTATOR_URL=http://127.0.0.1:8003 \
#   PROBLEMS=problems.jsonl OUT=runs/qwen3-8b-predictors examples/train_predictors.sh
#
# It can be interrupted at any time; the same command resumes it (training and evaluation restart).
set -euo pipefail

OUT=${OUT:-runs/predictors} # parent folder of all outputs
[[ $OUT != *[,+]* ]] || { echo "OUT=$OUT: must not contain , or +, which separate predictors" >&2; exit 2; }
if [[ -z ${STUDENT:-}${TEACHER:-} ]]; then # the bundled models, with settings for short thinking
    bundled() { python -c "from tessy.lab import bundled; print(bundled.$1_path())"; }
    STUDENT=$(bundled student) TEACHER=$(bundled teacher)
    BASE=${BASE:-$STUDENT}
    LENGTHS=${LENGTHS:---thinking-tokens 600 --answer-tokens 64}
    TRAINING=${TRAINING:---learning-rate 3e-3 --test-share 0.1}
fi
if [[ -z ${PROBLEMS:-} ]]; then
    mkdir -p "$OUT" && PROBLEMS=$OUT/questions.jsonl
    python -m tessy.lab.write_problems "$PROBLEMS" --count 3000 # tasks of the bundled models
fi
: "${STUDENT:?set STUDENT and TEACHER}" "${TEACHER:?set STUDENT and TEACHER}"
read -ra fields <<<"${FIELDS:+--fields $FIELDS} ${LIMIT:+--limit $LIMIT}" # e.g. FIELDS="prompt=question"
problems=(--problems "$PROBLEMS" "${fields[@]}")
read -ra lengths <<<"${LENGTHS:-}"   # options, e.g. --thinking-tokens 8000 --answer-tokens 2000
read -ra training <<<"${TRAINING:-}" # options of train-predictor, e.g. --epochs 2
if [[ -n ${ANNOTATOR:-} ]]; then
    annotator=(--model "$ANNOTATOR" --url "${ANNOTATOR_URL:?set it to the URL of the annotator}")
else
    annotator=(--rule tessy.lab.marker:mark)
    echo "no ANNOTATOR: style is marked by a rule, for phrases of the bundled models only" >&2
fi

# 1 to 3, for each model: sample its responses, annotate their style, train its predictor.
make_predictor() { # author, model, tokenizer, URLs (empty: the model runs in this process)
    tessy sample --author "$1" --model "$2" --tokenizer "$3" --url "$4" \
        "${problems[@]}" "${lengths[@]}" --out "$OUT/$1-responses"
    tessy annotate --responses "$OUT/$1-responses" "${annotator[@]}" --out "$OUT/$1-annotations"
    [[ ! -e $OUT/$1-predictor ]] ||
        { echo "$OUT/$1-predictor is kept; remove it to train it again" >&2 && return; }
    tessy train-predictor --annotations "$OUT/$1-annotations" --base "${BASE:-Qwen/Qwen3-0.6B-Base}" \
        "${training[@]}" --out "$OUT/$1-predictor"
}
student_tokenizer=${STUDENT_TOKENIZER:-$STUDENT} teacher_tokenizer=${TEACHER_TOKENIZER:-$TEACHER}
make_predictor student "$STUDENT" "$student_tokenizer" "${STUDENT_URL:-}"
make_predictor teacher "$TEACHER" "$teacher_tokenizer" "${TEACHER_URL:-}"

# 4: evaluate the pair, and baselines without training; see evaluation.svg.
pair=$OUT/student-predictor+$OUT/teacher-predictor
for author in student teacher; do
    tessy evaluate-predictor --annotations "$OUT/$author-annotations" \
        --predictor "$pair,lexicon,sentence" --out "$OUT/$author-evaluation"
done

# 5: synthesize samples with both models and their predictors.
tessy synthesize "${problems[@]}" "${lengths[@]}" --out "$OUT/samples" \
    --student.model "$STUDENT" --student.tokenizer "$student_tokenizer" \
    --student.url "${STUDENT_URL:-}" --student.predictor "$OUT/student-predictor" \
    --teacher.model "$TEACHER" --teacher.tokenizer "$teacher_tokenizer" \
    --teacher.url "${TEACHER_URL:-}" --teacher.predictor "$OUT/teacher-predictor"
