/*
 * Which names lie inside, and what is done at which public ones. Tables of what is known, so never
 * complete: they warn, but for what lies inside, where each rule stands for a class of names.
 */
#include "requests/danger_int.h"

#include "base/clean.h"

#include <stdio.h>

bool danger_is_below(struct str name, struct str suffix)
{
	return str_ends(name, suffix) &&
	       (name.n == suffix.n || name.p[name.n - suffix.n - 1] == '.');
}

/* --- inside --- */

/* RFC 6761, 6762 (and its appendix G), 8375, and what routers and clusters call themselves. */
static const char *const inside_suffixes[] = {
	"arpa",	       "belkin",    "consul",	"corp",	   "domain", "fritz.box",
	"home",	       "intranet",  "internal", "invalid", "lan",    "local",
	"localdomain", "localhost", "onion",	"private", "router", "workgroup",
};

/* They answer with whatever address the asker writes into the name, or with the loopback's. */
static const char *const mirror_suffixes[] = {
	"1u.ms",	 "42foo.com", "backname.io",	"ddev.site",
	"docksal.site",	 "fuf.me",    "ip6.name",	"ipv6-literal.net",
	"lacolhost.com", "lndo.site", "local-ip.co",	"local-ip.medicmobile.org",
	"local-ip.sh",	 "local.gd",  "localdev.me",	"localho.st",
	"localtest.me",	 "lvh.me",    "nip.io",		"plex.direct",
	"rbndr.us",	 "rebind.it", "rebind.network", "sslip.io",
	"traefik.me",	 "vcap.me",   "xip.io",		"xip.name",
	"yoogle.com",
};

/* Where clouds tell a machine who it is, and give it credentials. */
static const char *const metadata_names[] = {
	"instance-data.ec2.internal", "metadata.azure.com",  "metadata.goog",
	"metadata.google.internal",   "metadata.packet.net", "metadata.platformequinix.com",
	"metadata.tencentyun.com",    "metadata.udhcpc.com", "metadata.vultr.com",
	"internal.cloudapp.net",
};

static bool is_below_any(struct str name, const char *const *suffixes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (danger_is_below(name, str_of(suffixes[i])))
			return true;
	return false;
}

/* "10", at most 255; false for anything else. */
static bool take_octet(struct str *rest, uint8_t *out)
{
	unsigned value = 0;
	size_t n = 0;

	while (n < rest->n && n < 4 && ascii_is_digit(rest->p[n]))
		value = value * 10 + (unsigned)(rest->p[n++] - '0');
	if (n == 0 || n > 3 || value > 255)
		return false;
	*out = (uint8_t)value;
	*rest = str_sub(*rest, n, rest->n);
	return true;
}

static bool is_inside_address(const uint8_t a[4])
{
	return a[0] == 0 || a[0] == 10 || a[0] == 127 || (a[0] == 100 && (a[1] & 0xc0) == 64) ||
	       (a[0] == 169 && a[1] == 254) || (a[0] == 172 && (a[1] & 0xf0) == 16) ||
	       (a[0] == 192 && a[1] == 168) || a[0] >= 224;
}

/* "10.0.0.1" or "10-0-0-1" at s, and no digit behind it. */
static bool starts_with_inside_address(struct str s)
{
	uint8_t a[4];
	char separator = 0;

	for (size_t i = 0; i < 4; i++) {
		if (!take_octet(&s, &a[i]))
			return false;
		if (i == 3)
			break;
		if (s.n == 0 || (s.p[0] != '.' && s.p[0] != '-') ||
		    (separator && s.p[0] != separator))
			return false;
		separator = s.p[0];
		s = str_sub(s, 1, s.n);
	}
	return (s.n == 0 || !ascii_is_alnum(s.p[0])) && is_inside_address(a);
}

static bool embeds_inside_address(struct str host)
{
	for (size_t i = 0; i < host.n; i++)
		if ((i == 0 || !ascii_is_alnum(host.p[i - 1])) &&
		    starts_with_inside_address(str_sub(host, i, host.n)))
			return true;
	return false;
}

const char *danger_inside(struct str host)
{
	if (is_below_any(host, metadata_names, ARRAY_LEN(metadata_names)))
		return "is where a cloud gives a machine its credentials";
	if (str_chr(host, '.') == host.n)
		return "has one label: it is known only inside a network, or is this bottle's own";
	if (is_below_any(host, inside_suffixes, ARRAY_LEN(inside_suffixes)))
		return "is known only inside a network";
	if (is_below_any(host, mirror_suffixes, ARRAY_LEN(mirror_suffixes)))
		return "leads to whatever address stands in the name, also to one inside";
	if (embeds_inside_address(host))
		return "names an address that lies inside";
	return NULL;
}

/* --- zones that many share --- */

static const char *const shared_zones[] = {
	"akamaihd.net",		 "akamaized.net",
	"aliyuncs.com",		 "amazonaws.com",
	"azure-api.net",	 "azure.com",
	"azureedge.net",	 "azurefd.net",
	"backblazeb2.com",	 "cloudapp.azure.com",
	"cloudapp.net",		 "cloudflarestorage.com",
	"cloudfront.net",	 "digitaloceanspaces.com",
	"edgesuite.net",	 "fastly.net",
	"fastlylb.net",		 "googleapis.com",
	"googleusercontent.com", "myhuaweicloud.com",
	"myqcloud.com",		 "ondigitalocean.app",
	"oraclecloud.com",	 "ovh.net",
	"rackcdn.com",		 "windows.net",
	"yandexcloud.net",
};

bool danger_is_shared_zone(struct str name)
{
	return is_below_any(name, shared_zones, ARRAY_LEN(shared_zones)) &&
	       danger_private_suffix(name).n == 0;
}

/* --- services --- */

/* X(constant, also without a body, what is done there) */
#define SERVICES(X)                                                                                \
	X(PASTE, false, "shows what is put there to anybody")                                      \
	X(FILES, false, "takes files that anybody can fetch")                                      \
	X(STORAGE, false, "stores files in folders that anybody can have")                         \
	X(CATCHER, true, "shows each request, address and all, to whoever set it up")              \
	X(TUNNEL, true, "leads to whatever machine somebody has connected")                        \
	X(CHAT, true, "passes on what is sent as a message")                                       \
	X(MAIL, false, "sends mail to anybody")                                                    \
	X(DNS, true, "resolves names, and a name can carry data to whoever answers for it")        \
	X(FETCHER, true, "fetches other addresses, so that it stands for all of them")             \
	X(IPFS, true, "fetches by content from machines that anybody can run")                     \
	X(EVENTS, true, "collects events for whoever has an account there")                        \
	X(PUBLISH, false, "publishes packages, which others then run")                             \
	X(CODE, false, "takes repositories, snippets and comments that anybody can read")

enum service {
#define X(constant, without_body, text) SERVICE_##constant,
	SERVICES(X)
#undef X
};

static const struct {
	const char *text;
	bool is_without_body;
} services[] = {
#define X(constant, without_body, text) {text, without_body},
	SERVICES(X)
#undef X
};

static const struct {
	enum service service;
	const char *suffixes; /* a space between each */
} known[] = {
	{SERVICE_PASTE,
	 "0bin.net bin.disroot.org bpa.st cl1p.net controlc.com dpaste.com dpaste.org ghostbin.com "
	 "hastebin.com ix.io jsonbin.io jsonblob.com justpaste.it justpaste.me kvdb.io notes.io "
	 "npoint.io paste.c-net.org paste.debian.net paste.ee paste.gg paste.mozilla.org paste.rs "
	 "paste.ubuntu.com pastebin.com pastebin.pl pastes.dev pastie.org privatebin.net "
	 "rentry.co rentry.org sprunge.us telegra.ph termbin.com textbin.net toptal.com "
	 "write.as"},
	{SERVICE_FILES,
	 "0x0.st 1drv.ms 1fichier.com anonfiles.com bashupload.com box.com buzzheavier.com "
	 "c-v.sh catbox.moe drive.google.com dropbox.com dropboxapi.com easyupload.io envs.sh "
	 "fars.ee file.io filebin.net gofile.io ibb.co imgbb.com imgur.com keep.sh "
	 "krakenfiles.com litterbox.catbox.moe mediafire.com mega.co.nz mega.nz onedrive.live.com "
	 "oshi.at pixeldrain.com postimages.org put.re send.vis.ee sendspace.com temp.sh "
	 "tmpfiles.org transfer.sh ttm.sh ufile.io uguu.se wetransfer.com workupload.com "
	 "wormhole.app x0.at"},
	{SERVICE_STORAGE,
	 "aliyuncs.com appspot.com b-cdn.net backblazeb2.com blob.core.windows.net cloudinary.com "
	 "cloudflarestorage.com digitaloceanspaces.com file.core.windows.net filebase.com "
	 "firebaseio.com firebasestorage.app firebasestorage.googleapis.com "
	 "firestore.googleapis.com gateway.storjshare.io linodeobjects.com myqcloud.com "
	 "nft.storage play.min.io queue.core.windows.net r2.dev storage.bunnycdn.com "
	 "storage.cloud.google.com storage.googleapis.com storage.yandexcloud.net supabase.co "
	 "t3.storage.dev table.core.windows.net tigris.dev uploadthing.com vultrobjects.com "
	 "wasabisys.com web3.storage dfs.core.windows.net"},
	{SERVICE_CATCHER,
	 "beeceptor.com burpcollaborator.net canarytokens.com canarytokens.org ceye.io dnslog.cn "
	 "eo6w.com grabify.link hookbin.com hookdeck.com hooks.zapier.com httpbin.org "
	 "httpdump.app interact.sh iplogger.org m.pipedream.net maker.ifttt.com mockbin.io "
	 "mockbin.org oast.fun oast.live oast.me oast.online oast.pro oast.site oastify.com "
	 "pipedream.net play.svix.com postb.in ptsv2.com ptsv3.com requestbin.com requestbin.net "
	 "requestcatcher.com requestinspector.com requestrepo.com script.google.com "
	 "script.googleusercontent.com smee.io typedwebhook.tools webhook.cool webhook.site "
	 "webhookrelay.com xss.ht"},
	{SERVICE_TUNNEL,
	 "app.github.dev bore.pub cfargotunnel.com devtunnels.ms duckdns.org dyndns.org "
	 "expose.dev githubpreview.dev hopto.org lhr.life lhr.rocks loca.lt localhost.run "
	 "localtunnel.me localxpose.io loclx.io ngrok-free.app ngrok-free.dev ngrok.app "
	 "ngrok.com ngrok.dev ngrok.io no-ip.org openport.io packetriot.net pagekite.me pinggy.io "
	 "pinggy.link pinggy.online playit.gg serveo.net serveousercontent.com "
	 "sharedwithexpose.com telebit.io trycloudflare.com ts.net tunnel.pyjam.as tunnelmole.net "
	 "tunnelto.dev zrok.io"},
	{SERVICE_CHAT,
	 "api.pushbullet.com api.pushover.net api.telegram.org api.twilio.com chat.googleapis.com "
	 "discord.com discord.gg discordapp.com discordapp.net graph.facebook.com hooks.slack.com "
	 "ntfy.sh outlook.office.com outlook.office365.com slack.com t.me telegram.org "
	 "webhook.office.com zulipchat.com"},
	{SERVICE_MAIL,
	 "api.brevo.com api.elasticemail.com api.emailjs.com api.mailersend.com api.mailgun.net "
	 "api.mailjet.com api.postmarkapp.com api.resend.com api.sendgrid.com api.sendinblue.com "
	 "api.smtp2go.com api.sparkpost.com api.zeptomail.com eu.mailgun.org formspree.io "
	 "formsubmit.co getform.io gmail.googleapis.com mailgun.org mandrillapp.com "
	 "sendgrid.com"},
	{SERVICE_DNS,
	 "adguard-dns.com alidns.com cleanbrowsing.org cloudflare-dns.com cloudflare-gateway.com "
	 "controld.com dns.adguard.com dns.google dns.google.com dns.sb dns0.eu doh.dns.apple.com "
	 "doh.li doh.opendns.com doh.pub dns.mullvad.net doh.libredns.gr dnspod.cn "
	 "dns.nextdns.io dns.twnic.tw one.one.one.one ordns.he.net quad9.net"},
	{SERVICE_FETCHER,
	 "12ft.io allorigins.win api.codetabs.com archive.fo archive.is archive.li archive.md "
	 "archive.org archive.ph archive.today archive.vn bit.ly browserless.io corsproxy.io "
	 "croxyproxy.com external-content.duckduckgo.com freedium.cfd github.dev "
	 "hackertarget.com is.gd jina.ai microlink.io proxy.duckduckgo.com rdap.org "
	 "scraperapi.com scrapingbee.com scrapingant.com t.co textise.net thum.io tinyurl.com "
	 "translate.goog translate.google.com translate.googleusercontent.com translate.yandex.com "
	 "translate.yandex.net urlscan.io v.gd validator.nu validator.w3.org web.archive.org "
	 "webcache.googleusercontent.com weserv.nl whateverorigin.org wsrv.nl"},
	{SERVICE_IPFS,
	 "4everland.io arweave.net cf-ipfs.com cloudflare-ipfs.com dweb.link eth.limo "
	 "fleek.network gateway.pinata.cloud infura-ipfs.io ipfs.io ipfs.tech mypinata.cloud "
	 "nftstorage.link w3s.link"},
	{SERVICE_EVENTS,
	 "amplitude.com analytics.google.com api.segment.io datadoghq.com docs.google.com "
	 "forms.gle forms.office.com google-analytics.com googletagmanager.com heapanalytics.com "
	 "logs.betterstack.com logtail.com mixpanel.com newrelic.com papertrailapp.com "
	 "plausible.io posthog.com segment.com sentry.io statsig.com typeform.com"},
	{SERVICE_CODE,
	 "api.bitbucket.org api.github.com bitbucket.org codeberg.org codepen.io codesandbox.io "
	 "gist.github.com gist.githubusercontent.com gitea.com github.com gitlab.com glitch.com "
	 "huggingface.co jsfiddle.net pastebin.run replit.com sr.ht stackblitz.com "
	 "uploads.github.com"},
};

/* Package indexes by the label that they have registered, not by each of their hosts. */
static const char publishers[] = "anaconda cpan crates docker gcr ghcr hackage hex jsr maven npmjs "
				 "nuget packagist pkg pub pypi quay rubygems sonatype";
static const char publishing_labels[] = "registry upload uploads push publish";

static bool is_word_of(struct str word, struct str words)
{
	bool more = true;

	while (more) {
		struct str one;

		words = str_cut(words, ' ', &one, &more);
		if (str_eq(one, word))
			return true;
	}
	return false;
}

/* Below one of them, or, for a wildcard, above one: it would be allowed too. */
static bool is_of(struct str host, struct str suffixes, bool is_wildcard)
{
	bool more = true;

	while (more) {
		struct str one;

		suffixes = str_cut(suffixes, ' ', &one, &more);
		if (danger_is_below(host, one) || (is_wildcard && danger_is_below(one, host)))
			return true;
	}
	return false;
}

/* "registry-1", "upload2": the word that a label begins with. */
static struct str word_of(struct str label)
{
	size_t n = 0;

	while (n < label.n && ascii_is_alpha(label.p[n]))
		n++;
	return str_sub(label, 0, n);
}

static bool is_publisher(struct str host)
{
	struct str registrable = danger_registrable(host), first, label;
	bool more;

	(void)str_cut(registrable, '.', &label, &more);
	(void)str_cut(host, '.', &first, &more);
	return is_word_of(label, STR_LIT(publishers)) ||
	       (registrable.n < host.n && is_word_of(word_of(first), STR_LIT(publishing_labels)));
}

/* "bucket.s3.eu-west-1.amazonaws.com", "s3-us-west-2.amazonaws.com", and what is reached like it.
 */
static bool is_amazon_storage(struct str host)
{
	bool more = true;

	if (!danger_is_below(host, STR_LIT("amazonaws.com")) &&
	    !danger_is_below(host, STR_LIT("amazonaws.com.cn")))
		return false;
	while (more) {
		struct str label;

		host = str_cut(host, '.', &label, &more);
		if (str_eq(label, STR_LIT("s3")) || str_starts(label, STR_LIT("s3-")) ||
		    str_eq(label, STR_LIT("execute-api")) || str_starts(label, STR_LIT("sqs")) ||
		    str_eq(label, STR_LIT("lambda-url")) || str_starts(label, STR_LIT("sns")))
			return true;
	}
	return false;
}

/* Resolvers are many; they are called what they are. */
static bool is_named_resolver(struct str host)
{
	struct str first;
	bool more;

	(void)str_cut(host, '.', &first, &more);
	return str_eq(word_of(first), STR_LIT("doh"));
}

const char *danger_uploads(struct str host, uint32_t methods, bool is_wildcard)
{
	const uint32_t bodies =
		1u << POLICY_METHOD_POST | 1u << POLICY_METHOD_PUT | 1u << POLICY_METHOD_PATCH;
	bool has_body = methods & bodies;
	const char *found = NULL;

	for (size_t i = 0; i < ARRAY_LEN(known) && !found; i++)
		if ((has_body || services[known[i].service].is_without_body) &&
		    is_of(host, str_of(known[i].suffixes), is_wildcard))
			found = services[known[i].service].text;
	if (!found && is_named_resolver(host))
		found = services[SERVICE_DNS].text;
	if (found || !has_body)
		return found;
	if (is_amazon_storage(host))
		return services[SERVICE_STORAGE].text;
	if (is_publisher(host))
		return services[SERVICE_PUBLISH].text;
	/* "somebody.vercel.app": whoever took the name. */
	return danger_private_suffix(host).n > 0 ? "is a name that anybody could have taken there"
						 : NULL;
}
