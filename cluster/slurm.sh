#!/usr/bin/env bash
# One training run on Slurm: Ray's head and workers in one allocation, run.py on the first node.
#
#   sbatch cluster/slurm.sh RUN_DIR [arguments of run.py train]
#   sbatch --nodes=1 --gpus-per-node=1 cluster/slurm.sh RUN_DIR --config configs/gpu.yaml
#
# Submit from the checkout, which must lie on a file system that all nodes share, with its virtual
# environment in .venv; the home directory, with Ray's token in it, must be shared too.
#
# Five minutes before the time limit Slurm sends USR1 to this script alone: the run is told to save
# by SIGTERM, and the job is put back into the queue, where it goes on from what was saved.
# To stop it for good, saving:  scancel --batch --signal=INT JOBID
#SBATCH --job-name=keisei-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=keisei-ray-%j.log
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "slurm.sh: no arguments, expected the directory of the run. sbatch cluster/slurm.sh runs/first" >&2
    exit 2
fi
# Slurm runs a copy of this file, so its own place says nothing.
cd "${SLURM_SUBMIT_DIR:?this script is started by sbatch}"
if [ -e .venv/bin/activate ]; then
    # shellcheck source=/dev/null
    . .venv/bin/activate
fi

export RAY_AUTH_MODE=token
# Since Slurm 22.05 srun does not take this over from the job by itself.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
ray get-auth-token --generate >/dev/null 2>&1

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*}
# Some hosts know their own name as a loopback address too.
ips=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
ip=$(tr ' ' '\n' <<<"$ips" | sed -nE '/^127\.|:/!{p;q}')
if [ -z "$ip" ]; then
    echo "slurm.sh: $head knows itself as '$ips', expected an address that other nodes reach." >&2
    exit 1
fi
# Two jobs may meet on a node. Ray's workers take ports from 10002 to 19999.
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_ADDRESS=$ip:$port

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    ray start --head --node-ip-address="$ip" --port="$port" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --block &
tries=0
until ray status --address "$RAY_ADDRESS" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 60 ]; then
        echo "slurm.sh: Ray's head on $head did not answer; its output is above." >&2
        exit 1
    fi
    sleep 2
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$head" \
        ray start --address="$RAY_ADDRESS" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi
python cluster/wait_for_cpus.py $((SLURM_JOB_NUM_NODES * SLURM_CPUS_PER_TASK))

requeue=no
run=
# shellcheck disable=SC2329  # The traps call it.
stop() {
    signalled=yes
    [ -z "$run" ] || kill -TERM "$run" 2>/dev/null || true
}
trap 'requeue=yes; stop' USR1
trap stop TERM INT
sh cluster/train.sh "$@" &
run=$!

# A signal ends `wait` early, with a code of its own; then wait again for the run's.
while :; do
    signalled=no
    code=0
    wait "$run" || code=$?
    [ "$signalled" = yes ] || break
done

if [ "$requeue" = yes ] && [ "$code" -eq 130 ]; then
    echo "slurm.sh: saved before the time limit; back into the queue."
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
