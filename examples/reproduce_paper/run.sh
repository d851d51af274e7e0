#!/usr/bin/env bash
# The paper's main experiment from problems to scores: two models write the data, the student is
# fine-tuned on it, and evaluated before and after (arXiv 2604.14164).
#
#   examples/reproduce_paper/run.sh synthesize   # needs the servers in ../paper_code.toml
#   examples/reproduce_paper/run.sh train        # needs GPUs: 8 of 80 GB at least
#   examples/reproduce_paper/run.sh evaluate     # needs servers of the models before and after
#
# Each step can be interrupted, and the same command resumes it. The servers of the last step:
#
#   vllm serve Qwen/Qwen3-8B --port 8001 --max-model-len 40960 --generation-config vllm
#   vllm serve runs/reproduce-paper/student --port 8004 --max-model-len 40960 \
#       --generation-config vllm
#
# The benchmarks here need no sandbox and no other judge: the mathematical ones, which the paper
# reports as unchanged (76.67 % and 80.42 % for AIME 2024 before and after). Those of programs, which
# improve: BENCHMARKS="lcb-v5 lcb-v6 lcb-pro ojbench" (docs/evaluation.md).
set -euo pipefail

HERE=$(dirname "$0")
STEPS=${*:-synthesize train evaluate}
OUT=${OUT:-runs/reproduce-paper}                # folder of all outputs
SYNTHESIZE=${SYNTHESIZE:-$HERE/../paper_code.toml}
FILTER=${FILTER:-$HERE/filter.toml}
SFT=${SFT:-$HERE/sft.toml}
EVALUATE=${EVALUATE:-$HERE/evaluate.toml}
BENCHMARKS=${BENCHMARKS:-aime24 aime25 math500} # names, or files of problems with references
STUDENT=${STUDENT:-Qwen/Qwen3-8B}
BEFORE_URL=${BEFORE_URL-http://127.0.0.1:8001}  # empty: the model runs in this process
AFTER_URL=${AFTER_URL-http://127.0.0.1:8004}
# How to start the training, e.g. `torchrun --nproc-per-node 8 -m tessy`.
LAUNCH=${LAUNCH:-accelerate launch --config_file $HERE/../accelerate/fsdp2.yaml -m tessy}
read -ra launch <<<"$LAUNCH"

synthesize() {
    tessy synthesize --config "$SYNTHESIZE" --out "$OUT/samples"
    if [[ ! -e $OUT/filtered/config.json ]]; then
        tessy filter "$OUT/samples" --config "$FILTER" --out "$OUT/filtered"
    fi
    tessy export "$OUT/filtered" --to tokens --out "$OUT/train.parquet"
}

train() {
    "${launch[@]}" sft "$OUT/train.parquet" --model "$STUDENT" --config "$SFT" --out "$OUT/student"
}

evaluate() {
    for benchmark in $BENCHMARKS; do
        name=$(basename "$benchmark" .jsonl)
        tessy evaluate --config "$EVALUATE" --benchmark "$benchmark" \
            --model "$STUDENT" --url "$BEFORE_URL" --out "$OUT/before-$name"
        tessy evaluate --config "$EVALUATE" --benchmark "$benchmark" \
            --model "$OUT/student" --url "$AFTER_URL" --out "$OUT/after-$name"
        tessy compare "$OUT/before-$name" "$OUT/after-$name" --out "$OUT/compare-$name.html"
    done
}

for step in $STEPS; do
    case $step in
        synthesize | train | evaluate) "$step" ;;
        *) echo "unknown step $step: expected synthesize, train or evaluate" >&2 && exit 2 ;;
    esac
done
