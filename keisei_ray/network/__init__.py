"""The network: compact positions in, move logits and the expected result out. No Ray.

    model.py      `PolicyValueNet`: input planes, residual tower, policy head, value head; and the
                  functions that read its outputs (legal mask, log-probabilities, values)
    attackers.py  which pieces attack each square, an input of the model
    origins.py    a second look of the policy, at the square that a move comes from
    listed_moves.py  legal moves of many positions as one list, whose logits a learner on a CPU asks
                  for
    recording.py  a network whose operations torch runs without Python
    weights.py    a model's weights as a packed buffer (to publish) or a safetensors file (to keep),
                  with version and digest
    compiling.py  whether torch can compile a network here
    host_copy.py  tensors copied from a GPU in one transfer
    cpu_process.py  threads and memory of a process that computes on the CPU

Self-play and the learner build the same module (`build_model`) and call the same `forward`, or a
recording of it with the same bits, so the policy that acts is the policy that is updated.
"""
