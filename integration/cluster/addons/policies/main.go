// Command policies lets NetworkPolicies hold on a node: kube-router's controller for them, without its router and proxy,
// which other programs of the node take the place of.
//
//	policies --kubeconfig FILE --node NAME --service-cidr CIDR --open ADDRESS
package main

import (
	"flag"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

func main() {
	config := options.NewKubeRouterConfig()
	services := flag.String("service-cidr", "", "range of the Services' addresses")
	flag.StringVar(&config.Kubeconfig, "kubeconfig", "", "who it is, and where the API server is")
	flag.StringVar(&config.HostnameOverride, "node", "", "name of the node")
	open := flag.String("open", "", "address that every pod may reach: that of the node with the cluster's DNS, which is no pod here")
	flag.Parse()
	config.ClusterIPCIDRs = []string{*services}
	config.ExternalIPCIDRs = []string{*open + "/32"}
	config.EnableIPv4 = true
	if err := run(config); err != nil {
		klog.ErrorS(err, "cannot let network policies hold")
		os.Exit(1)
	}
}

func run(config *options.KubeRouterConfig) error {
	client, err := clientcmd.BuildConfigFromFlags("", config.Kubeconfig)
	if err != nil {
		return err
	}
	cluster, err := kubernetes.NewForConfig(client)
	if err != nil {
		return err
	}
	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	factory := informers.NewSharedInformerFactory(cluster, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	controller, err := netpol.NewNetworkPolicyController(
		cluster, config, pods, policies, namespaces, &sync.Mutex{}, tables, sets)
	if err != nil {
		return err
	}
	// The controller writes all rules anew whenever a pod changes, which hundreds of pods make long. Without a policy none
	// of them says anything.
	withPolicies := func(handler cache.ResourceEventHandler) cache.ResourceEventHandler {
		there := func(any) bool { return len(policies.GetStore().ListKeys()) > 0 }
		return cache.FilteringResourceEventHandler{FilterFunc: there, Handler: handler}
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods:       withPolicies(controller.PodEventHandler),
		namespaces: withPolicies(controller.NamespaceEventHandler),
		policies:   controller.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	// The controller tells that it is alive to whom it takes for listening.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(beats, stop, &running)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	close(stop)
	running.Wait()
	return nil
}
