"""What tests share: processes, a Ray, clusters, odd tasks, simulated stores."""
