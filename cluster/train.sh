#!/bin/sh
# Starts a run in a directory or at a URI, or goes on with the one that lies there.
#
#   sh cluster/train.sh RUN_DIR|URI [arguments of run.py train]
#
# For whatever starts a run again by itself: a requeued Slurm job, a retried RayJob. It goes on with a
# run whoever owns its files, since containers change users: give it only a place of your own. Ends with
# run.py's exit code; run.py takes this process over, so signals reach it.
set -eu

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    echo "train.sh: the first argument is '${1-}', expected the directory of the run." >&2
    exit 2
fi
run_dir=${1%/}
shift
cd "$(dirname "$0")/.."

case $run_dir in
*://*)
    holds='import sys; from keisei_ray.storage.remote.remote_resume import holds_checkpoint as holds; sys.exit(not holds(sys.argv[1]))'
    if python -c "$holds" "$run_dir"; then
        exec python run.py --resume latest --trust --run-dir "$run_dir" "$@"
    fi
    # If there was no answer, run.py will say so; a run that lies there it does not overwrite.
    exec python run.py --run-dir "$run_dir" "$@"
    ;;
esac
if ls -d "$run_dir"/checkpoints/step-* >/dev/null 2>&1; then
    # By force, since the job that had it before may have been lost with its machine, and its lock
    # left behind. A process that gives a sign of life keeps the run all the same.
    exec python run.py --resume latest --force --trust --run-dir "$run_dir" "$@"
fi
free='import sys; from pathlib import Path; from keisei_ray.storage.run_lock import check_free; check_free(Path(sys.argv[1]))'
if [ -e "$run_dir/.lock" ] && ! python -c "$free" "$run_dir" 2>/dev/null; then
    # Another process trains there, or is about to: run.py names it and ends.
    exec python run.py --run-dir "$run_dir" "$@"
fi
if [ -e "$run_dir/config.json" ]; then
    # Stopped before its first checkpoint: run.py would refuse the directory, and there is nothing
    # in it to go on from.
    mv "$run_dir" "$run_dir.no-checkpoint.$(date -u +%Y%m%d-%H%M%S)"
fi
exec python run.py --run-dir "$run_dir" "$@"
