#!/bin/bash
# A run on several machines under Slurm: sbatch examples/slurm.sh shards run 3ml-large-50 batch.micro_rows=64
#
# One torchrun on each machine starts a process for each GPU. All see the same folders, on a file system they share.
# A job that is out of time is asked to save five minutes before, queues itself again, and goes on where it stood;
# a process that dies is started again from the newest checkpoint, at most three times.
#SBATCH --job-name=masklater
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=masklater-%j.log
set -euo pipefail

if (($# < 3)); then
    echo "usage: sbatch slurm.sh SHARDS RUN RECIPE [KEY=VALUE]..." >&2
    exit 2
fi
shards=$1 run=$2 recipe=$3
shift 3

resume=()
if [[ -f $run/run.json ]]; then
    resume=(--resume)
fi
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Without this, processes that are started again look for dead ones (pytorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240
srun torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node="$SLURM_GPUS_ON_NODE" \
    --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first:29500" \
    --max-restarts=3 \
    -m masklater pretrain "$recipe" "$@" --data "$shards" --out "$run" "${resume[@]}" &
work=$!

# SIGTERM goes to every process, which finishes its step, saves and leaves; then the job queues again. torchrun waits
# for that as long as TORCH_ELASTIC_SHUTDOWN_TIMEOUT says (torch 2.13; earlier ones do not read it, and wait for 30
# seconds: keep checkpoint.every_steps small there).
asked=
trap 'asked=yes; kill -TERM "$work"' TERM
status=0
wait "$work" || status=$?
if [[ $asked ]]; then
    wait "$work" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
