import ReplicaSim
