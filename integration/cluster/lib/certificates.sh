# shellcheck shell=bash
# One certificate authority for everything, and who is who.

authority=$root$etc/pki

# No extension by default: what a certificate is for is said below.
plain_request() {
  openssl req -x509 -days 365 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -config <(printf '[req]\ndistinguished_name = dn\n[dn]\n') "$@" 2>/dev/null
}

# certify NAME SUBJECT [NAMES]: NAMES are those of a server, as in subjectAltName.
certify() {
  local pki=$root$etc/pki
  local usage=(-addext "extendedKeyUsage=clientAuth,serverAuth")
  [ $# -lt 3 ] || usage+=(-addext "subjectAltName=$3")
  plain_request -CA "$authority/ca.crt" -CAkey "$authority/ca.key" -keyout "$pki/$1.key" -out "$pki/$1.crt" -subj "$2" \
    -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature "${usage[@]}" ||
    die "openssl cannot make the certificate $1"
}

# credentials NAME SUBJECT [NAMES]: a certificate, and a kubeconfig with it at $etc/NAME.kubeconfig.
credentials() {
  certify "$@"
  kubeconfig_of "$1" >"$root$etc/$1.kubeconfig"
}

# The content is in the file itself, so that it can be used on the node and outside.
kubeconfig_of() {
  cat <<KUBECONFIG
apiVersion: v1
kind: Config
clusters:
  - name: tandem
    cluster:
      server: https://$node_ip:6443
      certificate-authority-data: $(base64 -w0 "$authority/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$root$etc/pki/$1.crt")
      client-key-data: $(base64 -w0 "$root$etc/pki/$1.key")
contexts:
  - name: tandem
    context: {cluster: tandem, user: $1}
current-context: tandem
KUBECONFIG
}

make_certificates() {
  [ ! -e "$kubeconfig" ] || return 0
  (
    umask 077
    make_authority
    certify apiserver /CN=kube-apiserver \
      "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:$node_ip,IP:$API_IP,IP:127.0.0.1"
    certify apiserver-client /O=system:masters/CN=kube-apiserver
    certify front-proxy /CN=front-proxy
    certify_node
    as_second certify_node
    credentials kube-controller-manager /CN=system:kube-controller-manager
    credentials kube-scheduler /CN=system:kube-scheduler
    credentials coredns /CN=system:coredns
    credentials metrics-server /CN=system:metrics-server \
      "DNS:metrics-server.kube-system.svc,IP:$node_ip"
    credentials admin /O=system:masters/CN=admin
    # Last: the rest is there when this is.
    cp "$root$etc/admin.kubeconfig" "$kubeconfig"
  )
}

make_authority() {
  mkdir -p "$authority"
  plain_request -keyout "$authority/ca.key" -out "$authority/ca.crt" -subj /CN=tandem-cluster \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature ||
    die "openssl cannot make a certificate authority"
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$authority/accounts.key"
  openssl pkey -in "$authority/accounts.key" -pubout -out "$authority/accounts.pub"
}

# What every node has.
certify_node() {
  mkdir -p "$root$etc/pki"
  [ "$role" = control ] || cp "$authority/ca.crt" "$root$etc/pki/"
  certify kubelet-server "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:$own_ip"
  credentials kubelet "/O=system:nodes/CN=system:node:$node"
  credentials kube-proxy /CN=system:kube-proxy
  credentials policies /CN=system:policies
}
