#!/bin/bash
# A corpus prepared on many machines under Slurm, each with a share of the files:
#   sbatch --array=0-15 examples/slurm-prepare.sh shards tokenizer 'crawl/*.jsonl.zst' --text-field body
#
# The tokenizer is made before, of a sample: masklater prepare 'crawl/000*.jsonl.zst' --out sample, then sample/tokenizer.
# Each task makes SHARDS of its own, shards.0 to shards.15; when all are there, one small job joins them into `shards`
# without copying rows, and shards.* may be removed. A task that was killed goes on where it stood when it is queued again.
# Duplicates (--dedup) are looked for among the files of one task only.
#SBATCH --job-name=masklater-prepare
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=masklater-prepare-%A-%a.log
set -euo pipefail

if (($# < 3)) || [[ -z ${SLURM_ARRAY_TASK_ID:-} ]]; then
    echo "usage: sbatch --array=0-N slurm-prepare.sh SHARDS TOKENIZER 'FILES' [OPTION]..." >&2
    exit 2
fi
shards=$1 tokenizer=$2 pattern=$3
shift 3

if ((SLURM_ARRAY_TASK_ID == SLURM_ARRAY_TASK_MIN)) && [[ ! -e $shards.0 && ! -e $shards.0.parts ]]; then
    sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" --job-name=masklater-join --output="masklater-join-%j.log" \
        --wrap="masklater join \$(ls -dv '$shards'.* | grep -E '\.[0-9]+\$') --out '$shards'"
fi

# Every n-th file, so that shares are alike; the same ones whenever this task is queued again.
mine=()
number=0
while IFS= read -r file; do
    if ((number++ % SLURM_ARRAY_TASK_COUNT == SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN)); then
        mine+=("$file")
    fi
done < <(compgen -G "$pattern" | LC_ALL=C sort)
out=$shards.$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))
if ((${#mine[@]} == 0)) || [[ -f $out/index.json ]]; then
    echo "nothing to do for $out: no file is left for it, or it is there already"
    exit 0
fi

exec masklater prepare "${mine[@]}" --out "$out" --tokenizer "$tokenizer" --workers "${SLURM_CPUS_PER_TASK:-1}" \
    --resume "$@"
