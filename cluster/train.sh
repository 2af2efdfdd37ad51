#!/bin/sh
# Starts a run in a directory or at a URI, or goes on with the one that lies there.
#
#   sh cluster/train.sh RUN_DIR|URI [arguments of run.py train]
#
# For whatever starts a run again by itself: a requeued Slurm job, a retried RayJob. It goes on with a
# run whoever owns its files, since containers change users: give it only a place of your own. A run
# that goes on does not begin again from --init-from. Ends with run.py's exit code; run.py takes this
# process over, so signals reach it.
set -eu

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    echo "train.sh: the first argument is '${1-}', expected the directory of the run." >&2
    exit 2
fi
run_dir=${1%/}
shift
cd "$(dirname "$0")/.."

# Goes on with the run by these arguments, without the network that it began with: run.py refuses
# --init-from beside --resume, and a name that may mean another network by now.
go_on() {
    flag=
    for word; do
        shift
        case $flag$word in
        --init-from | --set) flag=$word= ;; # Its value is the next word.
        --init-from=* | --set=run.init_from=latest) flag= ;;
        *)
            set -- "$@" "$flag$word"
            flag=
            ;;
        esac
    done
    [ -z "$flag" ] || set -- "$@" "${flag%=}" # run.py says what is missing.
    exec python run.py "$@"
}

go_on_if_saved() {
    if ls -d "$run_dir"/checkpoints/step-* >/dev/null 2>&1; then
        # By force, since the job that had it before may have been lost with its machine, and its
        # lock left behind. A process that gives a sign of life keeps the run all the same.
        go_on --resume latest --force --trust --run-dir "$run_dir" "$@"
    fi
}

case $run_dir in
*://*)
    holds='import sys; from keisei_ray.storage.remote.remote_resume import holds_checkpoint as holds; sys.exit(not holds(sys.argv[1]))'
    if python -c "$holds" "$run_dir"; then
        go_on --resume latest --trust --run-dir "$run_dir" "$@"
    fi
    # If there was no answer, run.py will say so; a run that lies there it does not overwrite.
    exec python run.py --run-dir "$run_dir" "$@"
    ;;
esac
go_on_if_saved "$@"
free='import sys; from pathlib import Path; from keisei_ray.storage.run_lock import check_free; check_free(Path(sys.argv[1]))'
is_free=yes
if [ -e "$run_dir/.lock" ] && ! python -c "$free" "$run_dir" 2>/dev/null; then
    is_free=no
fi
# The process that had the run may have saved it meanwhile; one that was killed has been waited for.
go_on_if_saved "$@"
if [ "$is_free" = no ]; then
    # Another process trains there, or is about to: run.py names it and ends.
    exec python run.py --run-dir "$run_dir" "$@"
fi
if [ -e "$run_dir/config.json" ]; then
    # Stopped before its first checkpoint: run.py would refuse the directory, and there is nothing
    # in it to go on from.
    mv "$run_dir" "$run_dir.no-checkpoint.$(date -u +%Y%m%d-%H%M%S)"
fi
exec python run.py --run-dir "$run_dir" "$@"
