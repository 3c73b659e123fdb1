"""Cgroups of version 2: each holds one incarnation and all of its descendants."""
