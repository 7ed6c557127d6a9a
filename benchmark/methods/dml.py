"""Deep mutual learning: networks trained together, each on the labels and on its peers.

Zhang et al. 2018, "Deep Mutual Learning" (arXiv:1706.00384), equations 5 to 8 for two networks
and the K-network loss: CE + 1/(K-1) sum of KL(p_j || p_i), temperature 1, no weight. A target
carries no gradient, which equals the authors' gradients with respect to a network's own
variables (YingZhangDUT/Deep-Mutual-Learning@34a2058).

Deviations, each an option: their algorithm alternates (``updates: alternating``: network 1 moves,
then the others predict again), their code and every re-implementation step all networks from one
pass; their code sums over the peers (``reduction: sum``). ``target: ensemble`` is one divergence
from the peers' averaged probabilities, which the paper reports as the weaker variant and the
literature reprints as its equation; ``target: logits`` from averaged logits, at temperature 3, with
1e-7 on the target and ``detach: false``, is the DML of OKDDip's table
(DefangChen/OKDDip-AAAI2020@c6a05de); ``target: symmetric`` half the sum of both directions
(sseung0703/KD_methods_with_TF@9fb5414); ``detach: false`` the loss of
chxy95/Deep-Mutual-Learning@650e276. The reported network is the first.
"""
