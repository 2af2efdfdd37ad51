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
# by SIGTERM, and the job is put back into the queue, where it goes on from what was saved; also where
# the run has not begun yet. To stop it for good, saving:  scancel --batch --signal=INT JOBID
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

readonly START_TRIES=3
requeue=no
stopped=no
child=
gave_up=

if [ $# -eq 0 ]; then
    echo "slurm.sh: no arguments, expected the directory of the run. sbatch cluster/slurm.sh runs/first" >&2
    exit 2
fi

# The traps come first: Slurm may send the signals at any moment, also before there is a run.
# shellcheck disable=SC2329  # The traps call it.
stop() {
    stopped=yes
    signalled=yes
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap 'requeue=yes; stop' USR1
trap stop TERM INT
# A node that could not be had before the run began; a run that has begun goes on without it.
trap 'gave_up=yes; signalled=yes; [ "$phase" = running ] || stop' USR2
phase=starting

# Runs a command until it ends by itself or as the signals tell it to; sets `code`. A signal ends
# `wait` early, with a code of its own; then the command is waited for again.
attend() {
    "$@" &
    child=$!
    [ "$stopped" = no ] || kill -TERM "$child" 2>/dev/null || true
    while :; do
        signalled=no
        code=0
        wait "$child" || code=$?
        [ "$signalled" = yes ] || break
    done
    child=
}

# Ends the job if it was told to stop before there was a run, of which nothing is to be saved.
leave_if_stopped() {
    [ "$stopped" = yes ] || return 0
    if [ -n "$gave_up" ]; then
        echo "slurm.sh: the nodes of this job cannot be used; the reason is above." >&2
        exit 1
    fi
    if [ "$requeue" = yes ]; then
        echo "slurm.sh: the time limit is near and the run has not begun; back into the queue." \
            "If that comes again, ask for a longer --time."
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "slurm.sh: stopped before the run began."
    fi
    exit 130
}

# Slurm runs a copy of this file, so its own place says nothing.
cd "${SLURM_SUBMIT_DIR:?this script is started by sbatch}"
if [ -e .venv/bin/activate ]; then
    # shellcheck source=/dev/null
    . .venv/bin/activate
fi

export RAY_AUTH_MODE=token
# Since Slurm 22.05 srun does not take this over from the job by itself.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
if ! said=$(ray get-auth-token --generate 2>&1 >/dev/null); then
    echo "slurm.sh: Ray makes no token on $(hostname): $said" >&2
    exit 1
fi

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

# Keeps Ray up on a node: starts it again where it ends, at most START_TRIES times. To be run in
# the background; it ends, and Ray with it, by SIGTERM.
keep_up() {
    local node=$1 try task=
    shift
    trap 'kill "$task" 2>/dev/null; exit' TERM
    for ((try = 1; try <= START_TRIES; try++)); do
        srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
            ray start "$@" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
        task=$!
        wait "$task" || true
        echo "slurm.sh: Ray on $node has ended, start $try of $START_TRIES; its output is above." >&2
        sleep 5
    done
    kill -USR2 $$
}

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
keep_up "$head" --head --node-ip-address="$ip" --port="$port" &
tries=0
until ray status --address "$RAY_ADDRESS" >/dev/null 2>&1; do
    leave_if_stopped
    tries=$((tries + 1))
    if [ "$tries" -gt 60 ]; then
        echo "slurm.sh: Ray's head on $head did not answer; its output is above." >&2
        exit 1
    fi
    sleep 2
done
for node in $hosts; do
    [ "$node" = "$head" ] || keep_up "$node" --address="$RAY_ADDRESS" &
done
attend python cluster/wait_for_cpus.py $((SLURM_JOB_NUM_NODES * SLURM_CPUS_PER_TASK))
leave_if_stopped
[ "$code" -eq 0 ] || exit "$code"

phase=running
attend sh cluster/train.sh "$@"

# 143: the signal came before the program could listen to it; there was nothing to save.
if [ "$requeue" = yes ] && { [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; }; then
    echo "slurm.sh: saved before the time limit; back into the queue."
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
